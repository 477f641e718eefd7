//! Lies and silence before a path is there.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nvmf::spec::Status;
use nvmf::spec::feature::fid;
use nvmf::spec::identify::cns;
use nvmf::spec::log::lid;
use nvmf::spec::pdu::kind;
use nvmf::spec::property::offset;
use socket2::{Domain, Socket, Type};

use crate::liar::{Then, completion, data, instead, lie, response, silence, status, term_req};
use crate::trial::{self, connecting, harmless};

/// Whether this is the second connection of a try, which is the first I/O queue's.
fn second(connection: usize) -> bool {
    connection % 2 == 1
}

#[test]
fn a_target_that_does_not_accept_is_given_up() {
    // Nobody accepts, and the queue of those who wait is full: further SYNs are dropped.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue does not fill up");
    }
    const SAYS: &str = "no answer within the time given";
    trial::never_connects(address, SAYS);
    trial::never_connects_beside(address, trial::target().addresses[1], SAYS);
}

#[test]
fn silence_after_the_icreq_is_given_up() {
    connecting("no answer to ICReq", silence(|seen| seen.kind == kind::IC_RESP));
}

#[test]
fn silence_after_connect_is_given_up() {
    connecting("no answer to Connect", silence(|seen| seen.connect() == Some(0)));
}

#[test]
fn silence_about_a_property_is_given_up() {
    connecting("no answer to Property Get", silence(|seen| seen.get(offset::CAP)));
    connecting("no answer to Property Set", silence(|seen| seen.set(offset::CC)));
}

#[test]
fn silence_after_identify_is_given_up() {
    for cns in [cns::CONTROLLER, cns::NAMESPACE, cns::NAMESPACE_DESCRIPTORS] {
        connecting("no answer to Identify", silence(move |seen| seen.identify(cns)));
    }
}

#[test]
fn silence_after_set_features_is_given_up() {
    for fid in [fid::ASYNC_EVENT_CONFIG, fid::NUMBER_OF_QUEUES] {
        connecting("no answer to Set Features", silence(move |seen| seen.feature(fid)));
    }
}

#[test]
fn silence_about_the_ana_log_is_given_up() {
    connecting("no answer to Get Log Page", silence(|seen| seen.log(lid::ANA)));
}

#[test]
fn silence_on_the_connection_of_an_io_queue_is_given_up() {
    let of_io = |seen: &crate::liar::Seen| second(seen.connection) && seen.kind == kind::IC_RESP;
    connecting("no answer to ICReq", silence(of_io));
    connecting("no answer to Connect", silence(|seen| seen.connect() == Some(1)));
}

#[test]
fn a_target_that_is_slow_at_every_step_is_given_up_in_the_end() {
    let slow = lie(|seen, pdu| match seen.to_host {
        true => Then::Late(trial::STEP * 2 / 5, pdu),
        false => Then::On(pdu),
    });
    connecting("not connected after 4s", slow);
}

#[test]
fn a_controller_that_never_is_ready_is_given_up() {
    connecting(
        "the controller is not ready after",
        completion(|seen| seen.get(offset::CSTS), |cqe| cqe[0] &= !1),
    );
}

#[test]
fn a_controller_that_has_failed_is_given_up() {
    let fatal = completion(|seen| seen.get(offset::CSTS), |cqe| cqe[0] |= 2);
    connecting("fatal error (CSTS.CFS)", fatal);
}

/// Changes a byte of the ICResp.
fn ic_resp(at: usize, byte: u8) -> crate::liar::Lie {
    instead(
        |seen| seen.kind == kind::IC_RESP,
        move |_, mut pdu| {
            pdu[at] = byte;
            pdu
        },
    )
}

#[test]
fn an_icresp_that_cannot_be_is_refused() {
    connecting("PDU format version 1", ic_resp(8, 1));
    connecting("PDU data alignment 32", ic_resp(10, 32));
    connecting("a digest that was not asked for", ic_resp(11, 3));
    let limit = instead(
        |seen| seen.kind == kind::IC_RESP,
        |_, mut pdu| {
            pdu[12..16].fill(0);
            pdu
        },
    );
    connecting("MAXH2CDATA of 0 bytes", limit);
}

#[test]
fn an_answer_before_its_command_is_refused() {
    let early = instead(
        |seen| seen.kind == kind::IC_RESP,
        |_, pdu| [pdu, response(0, Status::SUCCESS)].concat(),
    );
    connecting("CapsuleResp for command 0, which is not outstanding", early);
}

#[test]
fn an_icresp_that_comes_again_is_refused() {
    let again = instead(|seen| seen.kind == kind::IC_RESP, |_, pdu| [pdu.clone(), pdu].concat());
    connecting("ICResp out of sequence", again);
}

#[test]
fn a_controller_that_ends_the_connection_is_quoted_at_any_step() {
    const SAYS: &str = "the peer ended the connection";
    connecting(SAYS, instead(|seen| seen.kind == kind::IC_RESP, |_, _| term_req()));
    connecting(SAYS, instead(|seen| seen.connect().is_some(), |_, _| term_req()));
    connecting(SAYS, instead(|seen| seen.get(offset::CSTS), |_, _| term_req()));
    connecting(SAYS, instead(|seen| seen.identify(cns::CONTROLLER), |_, _| term_req()));
    connecting(SAYS, instead(|seen| seen.connect() == Some(1), |_, _| term_req()));
}

#[test]
fn a_controller_that_hangs_up_at_any_step_is_given_up() {
    const SAYS: &str = "the peer closed the connection";
    for step in 0..4 {
        let close = lie(move |seen, pdu| {
            let now = match step {
                0 => seen.kind == kind::IC_RESP,
                1 => seen.connect() == Some(0),
                2 => seen.identify(cns::NAMESPACE),
                _ => seen.connect() == Some(1),
            };
            if seen.to_host && now { Then::Close } else { Then::On(pdu) }
        });
        connecting(SAYS, close);
    }
}

#[test]
fn a_controller_without_an_identifier_is_refused() {
    let none = completion(|seen| seen.connect() == Some(0), |cqe| cqe[..2].fill(0xff));
    connecting("the controller's identifier is 0xffff", none);
}

#[test]
fn a_controller_that_changes_from_queue_to_queue_is_refused() {
    let other = completion(|seen| seen.connect() == Some(2), |cqe| cqe[..2].fill(0x11));
    connecting("controller 4369 answers; ", other);
}

#[test]
fn a_controller_that_identifies_itself_as_another_one_is_refused() {
    let other = data(|seen| seen.identify(cns::CONTROLLER), |page| page[78..80].fill(0x11));
    connecting("it is controller 4369; Connect said", other);
}

#[test]
fn a_controller_that_wants_authentication_is_told_from_others() {
    let wants = completion(|seen| seen.connect() == Some(0), |cqe| cqe[2] |= 3);
    connecting("requires in-band authentication", wants);
}

#[test]
fn a_controller_that_grants_no_queue_is_refused() {
    let none = status(|seen| seen.feature(fid::NUMBER_OF_QUEUES), Status::INVALID_FIELD);
    connecting("Set Features failed: Invalid Field", none);
    let refused = status(|seen| seen.connect() == Some(1), Status::CONNECT_CONTROLLER_BUSY);
    connecting("Connect failed", refused);
}

#[test]
fn a_controller_that_grants_more_queues_than_were_asked_for_gets_no_more() {
    harmless(completion(|seen| seen.feature(fid::NUMBER_OF_QUEUES), |cqe| cqe[..4].fill(0xff)));
}

#[test]
fn queues_of_one_entry_are_refused_and_those_of_two_are_used() {
    let mqes = |entries: u8| {
        completion(|seen| seen.get(offset::CAP), move |cqe| (cqe[0], cqe[1]) = (entries, 0))
    };
    connecting("MQES 0", mqes(0));
    harmless(mqes(1));
}

/// Changes Identify Controller from a byte on.
fn controller(at: usize, bytes: &'static [u8]) -> crate::liar::Lie {
    data(
        |seen| seen.identify(cns::CONTROLLER),
        move |page| page[at..at + bytes.len()].copy_from_slice(bytes),
    )
}

#[test]
fn transfer_sizes_without_a_limit_have_one_all_the_same() {
    for mdts in [&[0], &[31], &[255]] {
        harmless(controller(77, mdts));
    }
}

#[test]
fn capsules_without_room_are_sent_without_data() {
    for ioccsz in [[0; 4], [3, 0, 0, 0], [4, 0, 0, 0]] {
        let ioccsz: &'static [u8; 4] = Box::leak(Box::new(ioccsz));
        harmless(controller(1792, ioccsz));
    }
}

/// Changes Identify Namespace from a byte on.
fn namespace(at: usize, bytes: &'static [u8]) -> crate::liar::Lie {
    data(
        |seen| seen.identify(cns::NAMESPACE),
        move |page| page[at..at + bytes.len()].copy_from_slice(bytes),
    )
}

#[test]
fn blocks_of_a_gigabyte_are_refused() {
    connecting("blocks of 1073741824 bytes", namespace(130, &[30]));
    connecting("blocks of 2^255 bytes", namespace(130, &[255]));
    connecting("LBA format 15 is in use", namespace(26, &[15]));
}

#[test]
fn a_namespace_of_more_bytes_than_there_are_numbers_is_refused() {
    let size: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0x80];
    connecting("9223372036854775808 blocks", namespace(0, size));
}

#[test]
fn blocks_with_metadata_are_refused() {
    connecting("metadata", namespace(128, &[8]));
}

#[test]
fn a_namespace_that_is_not_there_is_said_not_to_be() {
    connecting("no namespace 1", namespace(0, &[0; 8]));
    let invalid = status(|seen| seen.identify(cns::NAMESPACE), Status::INVALID_NAMESPACE);
    connecting("no namespace 1", invalid);
}

#[test]
fn boundaries_between_all_blocks_are_not_kept() {
    harmless(namespace(46, &[1, 0]));
}

#[test]
fn identifiers_of_a_wrong_length_are_refused() {
    let longer = data(|seen| seen.identify(cns::NAMESPACE_DESCRIPTORS), |page| page[1] = 255);
    connecting("namespace descriptor list makes no sense", longer);
}

/// Changes the ANA log page.
fn ana(change: fn(&mut [u8])) -> crate::liar::Lie {
    data(|seen| seen.log(lid::ANA), change)
}

#[test]
fn an_ana_log_without_the_group_is_refused() {
    connecting("it has no group 1", ana(|page| page[16] = 77));
    connecting("it has no group 1", ana(|page| page[8..10].fill(0)));
}

#[test]
fn an_ana_state_that_is_reserved_is_refused() {
    connecting("group 1 is in state 0x7", ana(|page| page[32] = 7));
}

#[test]
fn ana_groups_that_end_behind_the_page_are_refused() {
    const SAYS: &str = "an ANA group ends past its log page";
    // So many namespaces of the first group, and 65,535 groups of which none is the right one.
    connecting(SAYS, ana(|page| page[20..24].fill(0xff)));
    connecting(
        SAYS,
        ana(|page| {
            page[8..10].fill(0xff);
            page[16] = 77;
        }),
    );
}

#[test]
fn a_number_of_ana_groups_without_limit_is_read_to_a_limit() {
    // NANAGRPID.
    harmless(controller(348, &[0xff; 4]));
}
