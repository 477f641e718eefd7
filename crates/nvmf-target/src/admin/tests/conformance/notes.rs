//! What the page says of each thing that there is, and the tests that show it.

/// What is said of a thing, and what shows it.
#[derive(Debug)]
pub(super) struct Note {
    /// Its opcode or identifier.
    pub(super) number: u8,
    pub(super) says: &'static str,
    /// Names of test functions.
    pub(super) tests: &'static [&'static str],
}

pub(super) type Notes = &'static [Note];

impl Note {
    pub(super) fn tests(&self) -> String {
        names(self.tests)
    }
}

/// The names of tests, as they are written in a cell.
pub(super) fn names(tests: &[&str]) -> String {
    let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
    tests.join(", ")
}

const fn note(number: u8, says: &'static str, tests: &'static [&'static str]) -> Note {
    Note { number, says, tests }
}

pub(super) const ALL: [Notes; 7] = [ADMIN, IO, FABRICS, PROPERTIES, FEATURES, LOGS, IDENTIFY];

pub(super) const PREFACE: &str = "\
# What controllers answer

A target's controllers against NVM Express Base 2.1, NVM Command Set 1.1 and NVMe/TCP Transport 1.1.
They claim version 1.4 in VS; what later versions ask for beyond that is there too, but for CRTO and
for scopes in the Commands Supported and Effects page.

This page is made by asking controllers for every opcode, feature, log page and structure there could
be. A test fails when it is not what they answer; `UPDATE_DOCS=1 cargo test -p nvmf-target conformance`
makes it anew.

What holds for all commands:

| What | Tests |
|---|---|
";

/// What holds for all commands, and what shows it.
pub(super) const ALWAYS: &[(&str, &[&str])] = &[
    (
        "A command whose data is not as long as what it asks for is refused with Data SGL Length Invalid, before any of it moves.",
        &[
            "the_sgl_must_be_as_long_as_the_blocks",
            "data_is_refused_by_its_length_before_it_is_received",
            "unknown_structures_and_wrong_lengths_are_refused",
        ],
    ),
    (
        "Reserved bits of features and dwords are not looked at.",
        &[
            "what_is_reserved_is_not_looked_at_and_reads_as_zero",
            "of_commands_that_read",
            "of_commands_that_write",
            "of_flush",
        ],
    ),
    ("UUID indices are not looked at: there is no UUID list.", &["a_uuid_index_means_nothing"]),
    (
        "Part of a log page past its end reads as zeroes; an offset past its end, or one that is not a multiple of 4, is an Invalid Field in Command.",
        &["any_part_of_a_page_can_be_read"],
    ),
    (
        "A namespace identifier that could be one but is not is inactive; what can never be one is Invalid Namespace or Format.",
        &["namespaces_that_are_not_are_told_apart", "a_namespace_is_active_inactive_or_invalid"],
    ),
    (
        "An admin command that is one of two fused is an Invalid Field in Command; so are two I/O commands that are no Compare and Write of the same blocks. Where the other does not come it is Command Aborted due to Missing Fused Command.",
        &[
            "no_admin_command_is_half_of_a_fused_operation",
            "two_that_do_not_fit_are_both_invalid",
            "a_half_without_the_other_is_aborted",
        ],
    ),
    (
        "A reservation of another host stands in the way of the commands of its group, of Flush for all namespaces too: Reservation Conflict.",
        &[
            "commands_belong_to_the_groups_of_the_specification",
            "who_does_not_hold_it_may_not_write",
            "one_host_keeps_the_other_from_writing_and_from_reading",
        ],
    ),
    (
        "A namespace in an ANA state that keeps commands from it answers with that state's status, to be tried again.",
        &["what_cannot_be_reached_now_is_to_be_tried_again"],
    ),
    (
        "A command over a limit of its namespace waits; nothing fails for it.",
        &["commands_over_the_limit_wait_and_are_done"],
    ),
    (
        "Before CSTS.RDY, and after a shutdown, all but Fabrics commands are a Command Sequence Error.",
        &[
            "before_ready_only_fabrics_commands_are_taken",
            "after_a_shutdown_only_fabrics_commands_are_taken_until_it_is_enabled_again",
            "commands_after_a_shutdown_are_refused_on_every_queue",
        ],
    ),
];

pub(super) const ADMIN: Notes = &[
    note(
        0x02,
        "See the log pages.",
        &["any_part_of_a_page_can_be_read", "requests_that_do_not_fit_are_refused"],
    ),
    note(0x06, "See Identify.", &["unknown_structures_and_wrong_lengths_are_refused"]),
    note(
        0x08,
        "Aborts what waits: for an event, for memory, for its data. What is being executed goes on, and dword 0 says so. Up to ACL at once.",
        &[
            "abort_reaches_what_is_held_and_says_so_of_the_rest",
            "aborts_of_io_commands_are_handed_on_up_to_the_limit",
            "a_command_that_waits_for_others_is_aborted_and_one_that_is_executed_is_not",
            "a_write_whose_data_is_still_to_come_is_aborted",
            "a_queue_that_executes_one_command_after_the_other_aborts_none",
        ],
    ),
    note(
        0x09,
        "See the features. Nothing can be saved.",
        &[
            "nothing_can_be_saved",
            "data_comes_in_the_capsule",
            "data_that_is_not_in_the_capsule_is_asked_for",
        ],
    ),
    note(
        0x0a,
        "See the features. The saved value is the default.",
        &["values_that_were_set_are_read_back_and_have_defaults"],
    ),
    note(
        0x0c,
        "Up to AERL at once. Aborted by a reset.",
        &[
            "requests_are_held_up_to_the_limit",
            "asynchronous_events_are_held_and_aborted",
            "an_event_is_told_once_until_its_page_is_read",
        ],
    ),
    note(
        0x18,
        "Any command on any queue counts as well.",
        &[
            "a_silent_host_expires_and_keep_alive_prevents_it",
            "commands_on_any_queue_count",
            "without_a_timer_keep_alive_is_refused_and_nobody_expires",
        ],
    ),
    note(
        0x7f,
        "See the Fabrics commands.",
        &["fabrics_commands_that_do_not_belong_here_have_their_answers"],
    ),
];

pub(super) const IO: Notes = &[
    note(
        0x00,
        "One namespace, or all that can be reached.",
        &["flush_reaches_one_namespace_or_all"],
    ),
    note(
        0x01,
        "FUA, and every write where the write cache is off, is durable before it is answered.",
        &[
            "what_is_written_is_read",
            "force_unit_access_and_a_cache_switched_off_make_writes_durable",
            "a_read_only_namespace_is_write_protected",
            "of_commands_that_write",
        ],
    ),
    note(
        0x02,
        "FUA makes durable what is read before it is.",
        &[
            "what_is_written_is_read",
            "a_range_past_the_end_is_refused_before_data_moves",
            "of_commands_that_read",
        ],
    ),
    note(
        0x04,
        "At no more than 65536 ranges that do not touch; whatever writes a block takes its mark away. Marks outlast a restart where there is a place to save them, and are saved before the answer.",
        &[
            "marked_blocks_cannot_be_read_in_any_way",
            "whatever_writes_a_block_takes_its_mark_away",
            "a_write_whose_mark_cannot_be_taken_away_does_not_succeed",
            "marks_are_saved_before_the_answer_and_restored",
        ],
    ),
    note(
        0x05,
        "Fused with a Write of the same blocks it is Compare and Write, of up to ACWU blocks: nobody writes to the namespace in between.",
        &[
            "compare_tells_same_from_different_in_every_chunk",
            "it_writes_if_the_blocks_are_as_expected",
            "the_blocks_are_written_if_they_are_as_expected_and_else_not",
            "no_increment_by_compare_and_write_is_lost",
            "more_than_identify_says_is_too_much",
            "a_half_without_the_other_is_aborted",
        ],
    ),
    note(
        0x08,
        "More than MDTS at once; DEAC gives the space back.",
        &[
            "write_zeroes_zeroes_and_takes_more_than_mdts",
            "write_zeroes_with_deac_asks_to_give_the_space_back",
        ],
    ),
    note(
        0x09,
        "Deallocates if AD is set; deallocated blocks read as zeroes. Other hints change nothing.",
        &[
            "deallocated_ranges_read_as_zeroes",
            "one_bad_range_spares_all_blocks",
            "a_hint_changes_nothing",
        ],
    ),
    note(0x0c, "Reads every block.", &["verify_reads_every_block"]),
    note(
        0x0d,
        "With CPTPL what is registered and reserved is saved before the answer; where it cannot be, which RESCAP says, an Invalid Field in Command. Up to 256 hosts.",
        &[
            "one_host_keeps_the_other_from_writing_and_from_reading",
            "a_key_is_replaced_by_who_knows_it_or_ignores_it",
            "what_is_to_outlast_a_restart_is_saved_before_the_answer_and_restored",
            "without_a_place_to_save_to_nothing_can_be_asked_to_last",
            "a_namespace_takes_only_so_many_registrants",
            "of_the_reservation_commands",
        ],
    ),
    note(
        0x0e,
        "The extended structure only: EDS = 0 is a Host Identifier Inconsistent Format.",
        &[
            "the_report_tells_both_hosts_whoever_asks",
            "the_report_is_as_long_as_was_asked_for",
            "of_the_reservation_commands",
        ],
    ),
    note(
        0x11,
        "All six types. Preempt and Abort is answered once what waited of those hosts is aborted, and what was executed is done.",
        &[
            "each_type_gives_access_as_the_table_of_the_specification_says",
            "commands_belong_to_the_groups_of_the_specification",
            "commands_do_what_the_model_does",
            "who_is_preempted_is_told",
            "commands_that_wait_are_aborted_before_a_preempt_and_abort_is_answered",
        ],
    ),
    note(
        0x15,
        "",
        &[
            "a_release_frees_the_namespace",
            "a_holder_releases_and_registrants_are_told_if_it_concerns_them",
            "clear_ends_reservation_and_registrations",
        ],
    ),
    note(
        0x19,
        "Descriptor format 0, up to MSRC, MSSRL and MCL. Where it fails, dword 0 is the first range that was not copied.",
        &[
            "ranges_are_copied_in_memory_and_in_files",
            "ranges_lie_one_after_the_other_where_they_were_copied_to",
            "nothing_is_copied_if_a_range_is_wrong",
            "what_identify_says_is_the_most_is",
            "a_failed_copy_says_how_far_it_came",
        ],
    ),
    note(
        0x7f,
        "See the Fabrics commands.",
        &["fabrics_commands_on_an_io_queue_have_their_answers"],
    ),
];

pub(super) const FABRICS: Notes = &[
    note(
        0x00,
        "On the admin queue; an I/O queue answers Invalid Queue Type.",
        &["property_commands_read_and_write", "fabrics_commands_on_an_io_queue_have_their_answers"],
    ),
    note(
        0x01,
        "The first command of a connection; a second one is a Command Sequence Error.",
        &[
            "every_wrong_field_of_the_command_is_pointed_at",
            "every_wrong_field_of_the_data_is_pointed_at",
            "io_queues_that_do_not_match_their_association_are_refused",
            "io_queues_come_after_the_controller_is_enabled",
            "a_queue_identifier_is_taken_once_and_free_again_afterwards",
            "controllers_that_are_always_there_are_asked_for_by_identifier_or_as_any",
            "fabrics_commands_that_do_not_belong_here_have_their_answers",
        ],
    ),
    note(
        0x04,
        "On the admin queue; an I/O queue answers Invalid Queue Type.",
        &["property_commands_read_and_write", "properties_have_their_size_and_their_place"],
    ),
    note(
        0x08,
        "On an I/O queue; the admin queue answers Invalid Queue Type.",
        &["a_queue_that_disconnects_frees_its_identifier"],
    ),
];

pub(super) const PROPERTIES: Notes = &[
    note(0x00, "", &["capabilities_say_what_linux_wants_to_read"]),
    note(0x08, "", &["properties_have_their_size_and_their_place"]),
    note(
        0x14,
        "",
        &[
            "enabling_makes_ready_and_disabling_resets",
            "a_configuration_that_cannot_be_is_refused_and_changes_nothing",
            "a_reset_drops_the_io_queues_and_keeps_the_admin_queue",
        ],
    ),
    note(
        0x1c,
        "",
        &[
            "a_shutdown_is_complete_when_the_caller_says_so",
            "commands_after_a_shutdown_are_refused_on_every_queue",
            "a_shutdown_whose_flush_fails_is_not_complete",
        ],
    ),
    note(0x20, "", &["properties_have_their_size_and_their_place"]),
];

pub(super) const FEATURES: Notes = &[
    note(
        0x01,
        "Kept, without effect: commands are taken as they come.",
        &["values_that_were_set_are_read_back_and_have_defaults"],
    ),
    note(
        0x02,
        "There is one power state; the workload hint is kept.",
        &[
            "values_that_were_set_are_read_back_and_have_defaults",
            "what_is_not_there_cannot_be_set",
        ],
    ),
    note(
        0x04,
        "The composite temperature's thresholds are kept. There is no temperature (0 K), so that none is ever passed.",
        &["values_that_were_set_are_read_back_and_have_defaults"],
    ),
    note(
        0x05,
        "TLER is kept, without effect. DULBE is refused: deallocated blocks read as zeroes.",
        &[
            "values_that_were_set_are_read_back_and_have_defaults",
            "what_is_not_there_cannot_be_set",
        ],
    ),
    note(
        0x06,
        "Off, every write is durable before it is answered.",
        &[
            "a_write_cache_that_is_there_can_be_switched_off",
            "a_write_cache_that_is_switched_off_is_written_first",
        ],
    ),
    note(
        0x07,
        "As many pairs as the scarcer of the two, up to the subsystem's limit.",
        &["the_number_of_queues_is_granted_up_to_the_cap"],
    ),
    note(
        0x0a,
        "Kept, without effect: one block is written atomically.",
        &["values_that_were_set_are_read_back_and_have_defaults"],
    ),
    note(
        0x0b,
        "Events that cannot come are refused.",
        &["only_what_is_wanted_is_told", "what_is_not_there_cannot_be_set"],
    ),
    note(
        0x0e,
        "Counts on from what the host set; from 0 after a reset.",
        &["the_timestamp_counts_on_from_what_the_host_set"],
    ),
    note(
        0x0f,
        "Rounded up to KAS.",
        &["set_features_changes_the_timer_and_get_features_tells_it_rounded"],
    ),
    note(
        0x16,
        "Kept. Formats of Copy that there are not are refused; the switches may be 0 or 1.",
        &["what_the_host_can_deal_with_is_kept"],
    ),
    note(
        0x81,
        "128 bits, as Connect told it. Setting it is a Command Sequence Error.",
        &["the_host_identifier_is_told_and_cannot_be_changed"],
    ),
    note(
        0x82,
        "Nothing is masked after a reset.",
        &["the_reservation_mask_is_one_for_each_namespace"],
    ),
    note(
        0x83,
        "Saved before the answer. On a namespace whose reservations cannot be saved, which RESCAP says, an Invalid Field in Command; FFFFFFFFh means all but those.",
        &[
            "reservations_outlast_a_restart_where_a_host_says_so_and_they_can",
            "whatever_is_saved_keeps_no_other_connection_waiting",
        ],
    ),
    note(
        0x84,
        "No Write Protect and Write Protect, which outlasts a restart where there is a place to save it; elsewhere it lasts until the target ends. What the target's configuration protects stays protected.",
        &[
            "a_host_protects_a_namespace_and_all_are_told",
            "a_namespace_that_a_host_protects_takes_no_writes",
            "what_a_host_protects_is_durable_and_stays_protected_over_a_restart",
        ],
    ),
];

pub(super) const LOGS: Notes = &[
    note(
        0x00,
        "",
        &["each_page_and_feature_that_there_is_is_listed", "it_tells_of_its_pages_and_features"],
    ),
    note(
        0x01,
        "The 64 commands that failed last, of all queues. The field to blame is told where the status names it.",
        &[
            "failed_commands_of_all_queues_are_in_the_error_log",
            "the_field_to_blame_is_told_where_it_is_known",
        ],
    ),
    note(
        0x02,
        "Of the whole subsystem since it was made. Reliability is degraded once storage has lost writes.",
        &[
            "smart_counts_what_hosts_did",
            "the_smart_log_counts_what_hosts_did",
            "writes_that_were_lost_are_an_event_and_a_critical_warning",
        ],
    ),
    note(0x03, "One slot.", &["the_other_pages_are_there"]),
    note(
        0x04,
        "Kept until it was read without RAE.",
        &[
            "changed_namespaces_are_listed_until_the_host_has_read_them",
            "a_list_that_was_not_told_is_not_forgotten",
        ],
    ),
    note(
        0x05,
        "Of the NVM Command Set; any other CSI is an Invalid Field in Command.",
        &[
            "effects_list_exactly_the_commands_there_are",
            "command_effects_are_of_the_nvm_command_set",
        ],
    ),
    note(0x0c, "With RGO, groups only.", &["the_ana_log_has_the_groups_that_the_host_sees"]),
    note(
        0x12,
        "",
        &["each_page_and_feature_that_there_is_is_listed", "it_tells_of_its_pages_and_features"],
    ),
    note(
        0x70,
        "What the host may use, at each port; with PLEO, at the port it came to. With EXTDLPE, as extended entries without attributes. ALLSUBE is not there, and DLPF says so: what a host may not use is not for it to know of.",
        &[
            "the_page_is_read_in_any_parts_with_zeroes_past_its_end",
            "entries_of_one_port_and_extended_ones_can_be_asked_for",
            "a_host_is_told_of_what_it_may_use_where_it_may",
        ],
    ),
    note(
        0x80,
        "Each is read once; masked ones never come. The event comes again while there are more.",
        &["each_notification_of_a_reservation_is_read_once_and_a_masked_one_never"],
    ),
];

pub(super) const IDENTIFY: Notes = &[
    note(
        0x00,
        "Zeroes for an inactive namespace.",
        &["a_namespace_is_active_inactive_or_invalid", "a_namespace_says_its_size_and_who_it_is"],
    ),
    note(
        0x01,
        "See its fields.",
        &["the_controller_tells_what_it_can", "it_identifies_itself_and_nothing_else"],
    ),
    note(0x02, "Those that the host sees.", &["lists_have_what_follows_the_given_identifier"]),
    note(
        0x03,
        "EUI-64 if it has one, NGUID, UUID, command set.",
        &["descriptors_identify_an_active_namespace"],
    ),
    note(0x05, "NVM only.", &["a_namespace_is_active_inactive_or_invalid"]),
    note(0x06, "NVM only.", &["the_nvm_command_set_tells_its_limits_and_others_are_not_there"]),
    note(0x07, "NVM only.", &["lists_have_what_follows_the_given_identifier"]),
    note(
        0x08,
        "",
        &["a_namespace_is_active_inactive_or_invalid", "a_namespace_says_its_size_and_who_it_is"],
    ),
    note(
        0x10,
        "Those that the host sees.",
        &[
            "lists_have_what_follows_the_given_identifier",
            "namespaces_are_allocated_to_those_who_may_see_them",
        ],
    ),
    note(
        0x11,
        "As for an active namespace.",
        &["namespaces_are_allocated_to_those_who_may_see_them"],
    ),
    note(0x12, "", &["controllers_are_listed"]),
    note(
        0x13,
        "",
        &["controllers_are_listed", "static_controllers_are_there_and_hosts_come_back_to_theirs"],
    ),
    note(0x1a, "NVM only.", &["lists_have_what_follows_the_given_identifier"]),
    note(0x1b, "NVM only.", &["namespaces_are_allocated_to_those_who_may_see_them"]),
    note(
        0x1c,
        "The NVM Command Set, of the controller that is asked.",
        &["the_nvm_command_set_is_the_only_combination"],
    ),
];
