//! The handshake, as clients see it.

use proptest::prelude::*;

use super::*;
use crate::export::Export;
use crate::protocol::testing::Blank;

const MIB: u64 = 1 << 20;

fn terms() -> Terms {
    let device = Blank { size: 64 * MIB, ..Blank::default() };
    Export::new("disk".parse().unwrap(), device).unwrap().with_description("a disk").terms(32 << 20)
}

fn started() -> Handshake {
    let mut greeting = Vec::new();
    let handshake = Handshake::new(terms(), &mut greeting);
    assert_eq!(greeting, b"NBDMAGICIHAVEOPT\0\x03");
    handshake
}

fn option(kind: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [b"IHAVEOPT", &kind.to_be_bytes()[..], &length, data].concat()
}

/// Name and information of INFO and GO.
fn info_data(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut data = u32::try_from(name.len()).unwrap().to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend(u16::try_from(wanted.len()).unwrap().to_be_bytes());
    data.extend(wanted.iter().flat_map(|info| info.to_be_bytes()));
    data
}

/// A reply: of which option, its type, its data.
type Reply = (u32, u32, Vec<u8>);

fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut found = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<20>() {
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        assert_eq!(&head[..8], b"\x00\x03\xe8\x89\x04\x55\x65\xa9");
        let (data, rest) = rest.split_at(number(16) as usize);
        found.push((number(8), number(12), data.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty());
    found
}

/// All that comes of a stream, whose segments are of these lengths, again and again.
fn run(stream: &[u8], cuts: &[usize]) -> (Result<Step, Violation>, usize, Vec<u8>) {
    let mut handshake = started();
    let (mut out, mut at) = (Vec::new(), 0);
    for cut in cuts.iter().cycle() {
        let end = at + (*cut).clamp(1, (stream.len() - at).max(1)).min(stream.len() - at);
        while at < end {
            match handshake.receive(&stream[at..end], &mut out) {
                Ok((used, Step::More)) => {
                    assert!(used > 0);
                    at += used;
                }
                Ok((used, step)) => return (Ok(step), at + used, out),
                Err(violation) => return (Err(violation), 0, out),
            }
        }
        if at == stream.len() {
            break;
        }
    }
    (Ok(Step::More), at, out)
}

/// Replies to options of a client that is up to date.
fn ask(options: &[Vec<u8>]) -> (Step, Vec<Reply>) {
    let stream = [&b"\0\0\0\x03"[..], &options.concat()].concat();
    let (step, used, out) = run(&stream, &[stream.len()]);
    assert_eq!(used, stream.len());
    (step.unwrap(), replies(&out))
}

fn only(mut replies: Vec<Reply>) -> (u32, String) {
    assert_eq!(replies.len(), 1, "{replies:?}");
    let (_, kind, data) = replies.remove(0);
    (kind, String::from_utf8(data).unwrap())
}

const GO_ON: Step = Step::Transmission(Negotiated { structured: false });

#[test]
fn go_tells_what_is_asked_for_and_goes_on() {
    let (step, told) = ask(&[option(kind::GO, &info_data("disk", &[1, 2, 3, 77]))]);
    assert_eq!(step, GO_ON);
    let [export, name, description, sizes, ack] = &told[..] else { panic!("{told:?}") };
    assert!(told.iter().all(|reply| reply.0 == kind::GO));
    assert_eq!((export.1, &export.2[..]), (3, &b"\0\0\0\0\0\0\x04\0\0\0\x0d\x6d"[..]));
    assert_eq!((name.1, &name.2[..]), (3, &b"\0\x01disk"[..]));
    assert_eq!((description.1, &description.2[..]), (3, &b"\0\x02a disk"[..]));
    assert_eq!((sizes.1, &sizes.2[..]), (3, &b"\0\x03\0\0\0\x01\0\0\x10\0\x02\0\0\0"[..]));
    assert_eq!((ack.1, &ack.2[..]), (1, &b""[..]));
}

#[test]
fn info_tells_the_same_and_the_handshake_goes_on() {
    let (step, told) = ask(&[option(kind::INFO, &info_data("", &[]))]);
    assert_eq!(step, Step::More);
    assert_eq!(told.len(), 2, "what is not asked for is not told: {told:?}");
    let (step, told) =
        ask(&[option(kind::STRUCTURED_REPLY, b""), option(kind::GO, &info_data("", &[]))]);
    assert_eq!(step, Step::Transmission(Negotiated { structured: true }));
    assert_eq!(told[0], (kind::STRUCTURED_REPLY, 1, vec![]));
    // With structured replies there is DF.
    assert_eq!(told[1].2[10..], [0x0d, 0xed]);
}

#[test]
fn list_has_the_export_and_what_it_is() {
    let (step, told) = ask(&[option(kind::LIST, b"")]);
    assert_eq!(step, Step::More);
    assert_eq!(told[0], (kind::LIST, 2, b"\0\0\0\x04diska disk".to_vec()));
    assert_eq!(told[1], (kind::LIST, 1, vec![]));
}

#[test]
fn old_clients_get_what_they_know() {
    let answer = b"\0\0\0\0\x04\0\0\0\x0d\x6d";
    for name in ["", "disk"] {
        let export = option(kind::EXPORT_NAME, name.as_bytes());
        let (step, _, out) = run(&[&b"\0\0\0\0"[..], &export].concat(), &[1]);
        assert_eq!(step, Ok(GO_ON));
        assert_eq!(out, [&answer[..], &[0; 124]].concat());
        let (step, _, out) = run(&[&b"\0\0\0\x02"[..], &export].concat(), &[64]);
        assert_eq!((step, &out[..]), (Ok(GO_ON), &answer[..]));
    }
}

#[test]
fn abort_is_acknowledged_whatever_it_brings() {
    for data in [&b""[..], b"nonsense"] {
        let (step, told) = ask(&[option(kind::ABORT, data)]);
        assert_eq!((step, told), (Step::Aborted, vec![(kind::ABORT, 1, vec![])]));
    }
}

#[test]
fn wrong_options_are_refused_and_the_handshake_goes_on() {
    const INVALID: u32 = (1 << 31) + 3;
    const UNSUP: u32 = (1 << 31) + 1;
    const UNKNOWN: u32 = (1 << 31) + 6;
    const TOO_BIG: u32 = (1 << 31) + 9;
    let context = [&info_data("disk", &[])[..4], b"disk\0\0\0\0"].concat();
    for (wrong, error, word) in [
        (option(kind::LIST, b"x"), INVALID, "no data"),
        (option(kind::STRUCTURED_REPLY, b"x"), INVALID, "no data"),
        (option(kind::STARTTLS, b"x"), INVALID, "no data"),
        (option(kind::STARTTLS, b""), UNSUP, "TLS"),
        (option(kind::INFO, b""), INVALID, "add up"),
        (option(kind::GO, b"\0\0\0\x09disk\0\0"), INVALID, "add up"),
        (option(kind::GO, &info_data("other", &[3])), UNKNOWN, "`other`"),
        (option(kind::GO, &info_data(&"n".repeat(8000), &[])), UNKNOWN, "nnn"),
        (option(kind::SET_META_CONTEXT, &context), UNSUP, "metadata"),
        (option(kind::LIST_META_CONTEXT, &context), UNSUP, "metadata"),
        (option(4, b""), UNSUP, "know"),
        (option(11, b""), UNSUP, "know"),
        (option(0, b"abc"), UNSUP, "know"),
        (option(u32::MAX, &[0; 8192]), UNSUP, "know"),
        (option(kind::GO, &[0; 8193]), TOO_BIG, "8192"),
        (option(kind::LIST, &[0; 100_000]), TOO_BIG, "8192"),
        (option(4711, &[0; 10_000]), TOO_BIG, "8192"),
    ] {
        let kind = u32::from_be_bytes(wrong[8..12].try_into().unwrap());
        let (step, told) = ask(std::slice::from_ref(&wrong));
        assert_eq!((step, told[0].0), (Step::More, kind));
        let (said, why) = only(told);
        assert_eq!(said, error, "option {kind}: {why}");
        assert!(why.contains(word) && why.len() <= 4096, "option {kind}: {why}");
        let (step, told) = ask(&[wrong, option(kind::GO, &info_data("disk", &[]))]);
        assert_eq!((step, told.len()), (GO_ON, 3), "after option {kind}");
    }
}

#[test]
fn what_cannot_be_answered_ends_the_handshake() {
    let violation = |stream: &[u8]| run(stream, &[stream.len()]).0.unwrap_err();
    for flags in [4u32, 0x8000_0000, u32::MAX] {
        assert_eq!(violation(&flags.to_be_bytes()), Violation::ClientFlags(flags));
    }
    let with = |option: Vec<u8>| [&b"\0\0\0\x03"[..], &option].concat();
    for magic in [&b"IHAVEOPX"[..], b"NBDMAGIC", b"\0\0\0\0\0\0\0\0"] {
        let bad = [magic, &option(kind::LIST, b"")[8..]].concat();
        assert_eq!(violation(&with(bad)), Violation::OptionMagic);
    }
    for name in [&b"other"[..], b"dis", b"disk\0", &[b'n'; 9000]] {
        assert_eq!(violation(&with(option(kind::EXPORT_NAME, name))), Violation::NoExport);
    }
}

#[test]
fn a_length_that_never_comes_takes_no_memory() {
    let mut handshake = started();
    let mut out = Vec::new();
    let head = [&b"\0\0\0\x03IHAVEOPT\0\0\0\x07"[..], &[0xff; 4]].concat();
    let (used, _) = handshake.receive(&head, &mut out).unwrap();
    let (more, step) = handshake.receive(&head[used..], &mut out).unwrap();
    assert_eq!((used + more, step), (head.len(), Step::More));
    let (used, step) = handshake.receive(&[0; 1 << 16], &mut out).unwrap();
    assert_eq!((used, step), (1 << 16, Step::More));
    assert!(out.is_empty() && handshake.buffer.capacity() <= 8 << 10);
}

#[test]
fn what_follows_the_handshake_is_not_taken() {
    let go = option(kind::GO, &info_data("", &[]));
    let stream = [&b"\0\0\0\x03"[..], &go, b"\x25\x60\x95\x13 and so on"].concat();
    let (step, used, _) = run(&stream, &[stream.len()]);
    assert_eq!((step, used), (Ok(GO_ON), 4 + go.len()));
}

/// Options right and wrong, and bytes that are none.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let data = prop::collection::vec(any::<u8>(), 0..40);
    let known = (0u32..13, data).prop_map(|(kind, data)| option(kind, &data));
    let asked =
        (prop::sample::select(vec![6u32, 7]), "disk|other|", prop::collection::vec(0u16..6, 0..6))
            .prop_map(|(kind, name, wanted)| option(kind, &info_data(&name, &wanted)));
    let long =
        (any::<u32>(), 8000usize..9000).prop_map(|(kind, length)| option(kind, &vec![7; length]));
    let junk = prop::collection::vec(any::<u8>(), 0..20);
    prop::collection::vec(prop_oneof![6 => known, 6 => asked, 1 => long, 1 => junk], 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn segmentation_does_not_matter(
        flags in prop::sample::select(vec![0u32, 1, 2, 3, 3, 3, 3, 4]),
        pieces in pieces(),
        cuts in prop::collection::vec(1usize..70, 1..8),
    ) {
        let stream = [flags.to_be_bytes().to_vec(), pieces.concat()].concat();
        let whole = run(&stream, &[stream.len()]);
        prop_assert_eq!(&run(&stream, &cuts), &whole);
        prop_assert_eq!(&run(&stream, &[1]), &whole);
    }
}
