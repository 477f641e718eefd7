//! FreeBSD's packed name/value lists.

use nvmf::handoff::freebsd::nvlist::{NvList, Value};

use crate::bytes::Bytes;

/// Bytes as they are, or those of a list that the input describes, some of them changed: what is
/// decoded is encoded, and decoded to itself.
pub fn nvlist(data: &[u8]) {
    let mut bytes = Bytes(data);
    let packed = match bytes.u8() % 4 {
        0 => bytes.0.to_vec(),
        changes => {
            let mut packed = list(&mut bytes, 3).encode().unwrap_or_default();
            let at = bytes.u8();
            if changes > 1
                && let Some(byte) = packed.get_mut(usize::from(at))
            {
                *byte ^= bytes.u8();
            }
            packed
        }
    };
    if let Ok(list) = NvList::decode(&packed) {
        let again = list.encode().expect("what was decoded can be encoded");
        assert_eq!(NvList::decode(&again).expect("what was encoded can be decoded"), list);
    }
}

fn list(bytes: &mut Bytes<'_>, depth: u8) -> NvList {
    let pairs = bytes.u8() % 6;
    (0..pairs).fold(NvList::new(), |list, i| {
        let value = value(bytes, depth);
        list.with(&format!("{}{i}", char::from(bytes.u8() & 0x7f)), value)
    })
}

fn value(bytes: &mut Bytes<'_>, depth: u8) -> Value {
    let text = |byte: u8| char::from(byte & 0x7f).to_string();
    match bytes.u8() % 12 {
        0 => Value::Null,
        1 => Value::Bool(bytes.u8() & 1 == 1),
        2 => Value::String(text(bytes.u8())),
        3 => Value::Binary(bytes.array::<5>().to_vec()),
        4 => Value::Bools(vec![true; usize::from(bytes.u8() % 4)]),
        5 => Value::Numbers(vec![7; usize::from(bytes.u8() % 4)]),
        6 => Value::Strings(vec![text(bytes.u8()), text(bytes.u8())]),
        7 => Value::Descriptor(0),
        8 => Value::Descriptors(vec![0]),
        9 if depth > 0 => Value::List(list(bytes, depth - 1)),
        10 if depth > 0 => {
            Value::Lists((0..bytes.u8() % 4).map(|_| list(bytes, depth - 1)).collect())
        }
        _ => Value::Number(u64::from_le_bytes(bytes.array())),
    }
}
