//! Lists there and back, in both orders of bytes; and bytes that are none.

use proptest::prelude::*;

use super::*;

/// Any value, lists in it `depth` deep at most.
fn value(depth: u32) -> BoxedStrategy<Value> {
    let text = || "[^\0]{0,6}";
    // Descriptors come from `numbered`: what is here is how many an array has.
    let places = 1..4usize;
    let flat = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u64>().prop_map(Value::Number),
        text().prop_map(Value::String),
        Just(Value::Descriptor(0)),
        prop::collection::vec(any::<u8>(), 1..20).prop_map(Value::Binary),
        prop::collection::vec(any::<bool>(), 1..5).prop_map(Value::Bools),
        prop::collection::vec(any::<u64>(), 1..5).prop_map(Value::Numbers),
        prop::collection::vec(text(), 1..5).prop_map(Value::Strings),
        places.prop_map(|n| Value::Descriptors(vec![0; n])),
    ];
    if depth == 0 {
        return flat.boxed();
    }
    prop_oneof![
        4 => flat,
        1 => list(depth - 1).prop_map(Value::List),
        1 => prop::collection::vec(list(depth - 1), 1..4).prop_map(Value::Lists),
    ]
    .boxed()
}

fn list(depth: u32) -> BoxedStrategy<NvList> {
    prop::collection::btree_map("[a-zé]{0,4}", value(depth), 0..5)
        .prop_map(|pairs| NvList { pairs: pairs.into_iter().collect() })
        .boxed()
}

/// The list with its descriptors numbered from 0, as libnv does.
fn numbered(mut list: NvList) -> NvList {
    fn number(list: &mut NvList, next: &mut u32) {
        for (_, value) in &mut list.pairs {
            let mut place = |place: &mut u32| {
                *place = *next;
                *next += 1;
            };
            match value {
                Value::Descriptor(p) => place(p),
                Value::Descriptors(ps) => ps.iter_mut().for_each(place),
                Value::List(list) => number(list, next),
                Value::Lists(lists) => lists.iter_mut().for_each(|list| number(list, next)),
                _ => {}
            }
        }
    }
    number(&mut list, &mut 0);
    list
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_in_either_order(list in list(3).prop_map(numbered)) {
        for order in [Order::Little, Order::Big] {
            let packed = list.encode_in(order).unwrap();
            prop_assert_eq!(&NvList::decode(&packed).unwrap(), &list);
        }
    }

    #[test]
    fn a_list_cut_short_or_with_more_behind_is_none(list in list(2).prop_map(numbered)) {
        let packed = list.encode().unwrap();
        for len in 0..packed.len() {
            prop_assert!(NvList::decode(&packed[..len]).is_err());
        }
        prop_assert!(NvList::decode(&[&packed[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_list_with_a_byte_changed_is_another_or_none(
        list in list(2).prop_map(numbered), at in any::<prop::sample::Index>(), by in 1..=255u8
    ) {
        let packed = list.encode().unwrap();
        let at = at.index(packed.len());
        let mut changed = packed.clone();
        changed[at] ^= by;
        if let Ok(list) = NvList::decode(&changed) {
            prop_assert!(list.encode_in(Order::Little).is_ok());
        }
    }
}

/// A list of one pair, its type, length and items as given.
fn pair(kind: u8, len: u64, items: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![MAGIC, VERSION, 0];
    let descriptors = u64::from([kind::DESCRIPTOR, kind::DESCRIPTORS].contains(&kind));
    bytes.extend(descriptors.to_le_bytes());
    bytes.extend((PAIR_HEADER as u64 + 2 + value.len() as u64).to_le_bytes());
    bytes.push(kind);
    bytes.extend(2u16.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(items.to_le_bytes());
    bytes.extend(b"n\0");
    bytes.extend(value);
    bytes
}

/// Where a pair begins in a list that has nothing before it, and where its value does.
const FIRST: usize = LIST_HEADER;
const VALUE: usize = LIST_HEADER + PAIR_HEADER + 2;

#[track_caller]
fn fault(bytes: &[u8]) -> (usize, Fault) {
    let DecodeError { at, fault } = NvList::decode(bytes).unwrap_err();
    (at, fault)
}

#[test]
fn a_header_that_is_none_is_told() {
    let packed = NvList::new().encode_in(Order::Little).unwrap();
    let with = |at: usize, byte| {
        let mut bytes = packed.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(fault(&[]), (0, Fault::Truncated { missing: 3 }));
    assert_eq!(fault(&packed[..18]), (11, Fault::Truncated { missing: 1 }));
    assert_eq!(fault(&with(0, 0x6d)), (0, Fault::Magic(0x6d)));
    assert_eq!(fault(&with(2, 0x02)), (0, Fault::Flags(2)));
    assert_eq!(fault(&with(3, 1)), (19, Fault::Descriptors { says: 1, has: 0 }));
    assert_eq!(fault(&with(11, 1)), (0, Fault::Size { says: 1, there: 0 }));
    // libnv looks at no version.
    assert_eq!(NvList::decode(&with(1, 9)), Ok(NvList::new()));
}

#[test]
fn a_value_of_the_wrong_length_is_told() {
    let eight = [0; 8];
    let bad = |kind, len, items, value: &[u8]| {
        assert_eq!(
            fault(&pair(kind, len, items, value)),
            (FIRST, Fault::Length { kind, len, items })
        );
    };
    bad(kind::NULL, 1, 0, &[0]);
    bad(kind::BOOL, 8, 0, &eight);
    bad(kind::NUMBER, 4, 0, &[0; 4]);
    bad(kind::DESCRIPTOR, 4, 0, &[0; 4]);
    bad(kind::BINARY, 0, 0, &[]);
    bad(kind::LIST, 18, 0, &[0; 18]);
    bad(kind::BOOLS, 3, 2, &[0; 3]);
    bad(kind::BOOLS, 0, 0, &[]);
    bad(kind::NUMBERS, 8, 2, &eight);
    bad(kind::NUMBERS, 8, 1 << 61, &eight);
    bad(kind::DESCRIPTORS, 8, 0, &eight);
    bad(kind::STRINGS, 2, 3, &[0; 2]);
    bad(kind::STRINGS, 2, 1, b"\0\0");
    bad(kind::LISTS, 0, 0, &[]);
    let missing = (FIRST + PAIR_HEADER + 2, Fault::Truncated { missing: u64::MAX - 8 });
    assert_eq!(fault(&pair(kind::BINARY, u64::MAX, 0, &eight)), missing);
}

#[test]
fn a_value_that_cannot_be_is_told() {
    assert_eq!(fault(&pair(kind::BOOL, 1, 0, &[2])), (VALUE, Fault::Bool(2)));
    assert_eq!(fault(&pair(kind::BOOLS, 2, 2, &[1, 3])), (VALUE + 1, Fault::Bool(3)));
    for text in [&b"abc"[..], b"a\0c\0", b"\xff\0", b""] {
        let bytes = pair(kind::STRING, text.len() as u64, 0, text);
        assert_eq!(fault(&bytes), (VALUE, Fault::Text), "{text:?}");
    }
    assert_eq!(fault(&pair(kind::STRINGS, 3, 2, b"a\0b")), (VALUE, Fault::Text));
    let place = |place| fault(&pair(kind::DESCRIPTOR, 8, 0, &u64::to_le_bytes(place)));
    assert_eq!(place(1), (VALUE, Fault::Descriptor { place: 1, count: 1 }));
    assert_eq!(place(u64::MAX).1, Fault::Descriptor { place: u64::MAX, count: 1 });
    for kind in [0, 13, 100, 253] {
        assert_eq!(fault(&pair(kind, 0, 0, &[])), (FIRST, Fault::Type(kind)));
    }
}

#[test]
fn a_name_that_is_none_is_told() {
    let with = |name: [u8; 2]| {
        let mut bytes = pair(kind::NULL, 0, 0, &[]);
        bytes[FIRST + PAIR_HEADER..].copy_from_slice(&name);
        bytes
    };
    for name in [*b"nn", *b"\0\0", *b"\xff\0"] {
        assert_eq!(fault(&with(name)), (FIRST, Fault::Name));
    }
    for len in [0, NAME_MAX + 2] {
        let mut bytes = with(*b"n\0");
        bytes[FIRST + 1..FIRST + 3].copy_from_slice(&u16::try_from(len).unwrap().to_le_bytes());
        assert_eq!(fault(&bytes), (FIRST, Fault::Name));
    }
    let mut twice = NvList::new().with("a", 1u64).with("b", true).encode_in(Order::Little).unwrap();
    let second = twice.len() - 3;
    twice[second] = b'a';
    assert_eq!(fault(&twice), (second - PAIR_HEADER, Fault::Twice("a".to_owned())));
}

#[test]
fn a_list_is_closed_once_and_as_it_was_opened() {
    for kind in [kind::UP, kind::NEXT] {
        assert_eq!(fault(&pair(kind, 0, 0, &[])), (FIRST, Fault::Unopened));
    }
    let inner = || NvList::new().with("n", true);
    let closed = |list: NvList, by| {
        let mut bytes = list.encode_in(Order::Little).unwrap();
        let at = bytes.len() - CLOSING;
        bytes[at] = by;
        (fault(&bytes), at)
    };
    let (as_told, at) = closed(NvList::new().with("l", inner()), kind::NEXT);
    assert_eq!(as_told, (at, Fault::Unopened));
    let (as_told, at) = closed(NvList::new().with("l", vec![inner()]), kind::UP);
    assert_eq!(as_told, (at, Fault::Unopened));
    // An order of bytes in the middle of another.
    let mut bytes = NvList::new().with("l", inner()).encode_in(Order::Little).unwrap();
    bytes[VALUE + 2] = FLAG_BIG_ENDIAN;
    assert_eq!(fault(&bytes), (VALUE, Fault::Flags(FLAG_BIG_ENDIAN)));
}

/// So many lists, each in the one before.
fn nested(depth: usize) -> NvList {
    (1..depth).fold(NvList::new(), |inner, _| NvList::new().with("l", inner))
}

#[test]
fn lists_are_in_lists_as_deep_as_is_said() {
    let packed = nested(DEPTH_MAX).encode().unwrap();
    assert_eq!(NvList::decode(&packed).unwrap(), nested(DEPTH_MAX));
    assert_eq!(nested(DEPTH_MAX + 1).encode(), Err(EncodeError::Depth));

    // Nobody encodes them deeper here, so by hand: headers alone, which is far before the end.
    let header = |follows: u64| {
        let mut bytes = vec![MAGIC, VERSION, 0];
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(follows.to_le_bytes());
        bytes
    };
    let mut bytes = header(0);
    for _ in 0..100 {
        let mut outer = vec![kind::LIST, 2, 0];
        outer.extend(19u64.to_le_bytes());
        outer.extend(0u64.to_le_bytes());
        outer.extend(b"l\0");
        outer.extend(&bytes);
        bytes = [header(outer.len() as u64), outer].concat();
    }
    assert_eq!(fault(&bytes), (DEPTH_MAX * (LIST_HEADER + PAIR_HEADER + 2), Fault::Depth));
}

#[test]
fn what_has_no_encoding_is_refused_by_name() {
    let of = |value: Value| NvList::new().with("l", NvList::new().with("v", value)).encode();
    let name = || "v".to_owned();
    for value in [
        Value::Binary(vec![]),
        Value::Bools(vec![]),
        Value::Numbers(vec![]),
        Value::Strings(vec![]),
        Value::Descriptors(vec![]),
        Value::Lists(vec![]),
    ] {
        assert_eq!(of(value), Err(EncodeError::Empty { name: name() }));
    }
    assert_eq!(of("a\0b".into()), Err(EncodeError::Nul { name: name() }));
    assert_eq!(
        of(vec!["a".to_owned(), "\0".to_owned()].into()),
        Err(EncodeError::Nul { name: name() })
    );
    let (index, count) = (1, 1);
    assert_eq!(
        of(Value::Descriptor(1)),
        Err(EncodeError::Descriptor { name: name(), index, count })
    );
    let twice = NvList::new().with("v", true).with("v", 1u64);
    assert_eq!(twice.encode(), Err(EncodeError::Twice { name: name() }));
    for bad in ["a\0".to_owned(), "x".repeat(NAME_MAX + 1)] {
        let list = NvList::new().with(&bad, true);
        assert_eq!(list.encode(), Err(EncodeError::Name { name: bad }));
    }
    let longest = NvList::new().with(&"x".repeat(NAME_MAX), true);
    assert_eq!(NvList::decode(&longest.encode().unwrap()).unwrap(), longest);
}

#[test]
fn values_are_had_by_name_and_type() {
    let inner = || NvList::new().with("n", 1u64);
    let list = NvList::new()
        .with("bool", true)
        .with("number", 7u16)
        .with("string", "text")
        .with("binary", &[1, 2][..])
        .with("list", inner())
        .with("lists", vec![inner()]);
    assert_eq!(list.bool("bool"), Ok(true));
    assert_eq!(list.number("number"), Ok(7));
    assert_eq!(list.string("string"), Ok("text"));
    assert_eq!(list.binary("binary"), Ok(&[1, 2][..]));
    assert_eq!(list.list("list"), Ok(&inner()));
    assert_eq!(list.lists("lists"), Ok(&[inner()][..]));
    let error = list.number("bool").unwrap_err();
    assert_eq!(error.to_string(), "the list has no number \"bool\"");
    assert!(list.bool("other").is_err() && list.get("other").is_none());
    assert_eq!(list.iter().count(), 6);
    assert!(NvList::new().is_empty() && !list.is_empty());
}
