use super::*;
use crate::types::{Limits, NewExpiry, Set};

const AT: Option<UnixMillis> = Some(UnixMillis(1_700_000_000_000));

fn values() -> [Value<'static>; 3] {
    [Value::Int(-5), Value::Bytes(b"short"), Value::Shared(Arc::new(Sds::from_slice(&[b'x'; 5000])))]
}

#[test]
fn a_value_stays_the_same_wherever_its_entry_moves() {
    for key in [&b"k"[..], &[b'k'; 300]] {
        for (value, text) in values().into_iter().zip([&b"-5"[..], b"short", &[b'x'; 5000]]) {
            let is = |entry: &Entry, key: &[u8], expires| {
                assert_eq!((entry.key(), entry.expires()), (key, expires));
                assert_eq!(entry.string().map(|string| string.to_vec()).as_deref(), Some(text));
            };
            let entry = Entry::new(key, None, value);
            is(&entry, key, None);
            let copy = entry.duplicate(b"copy", AT);
            let entry = entry.with_expires(AT);
            is(&entry, key, AT);
            let entry = entry.renamed(b"another", AT);
            is(&entry, b"another", AT);
            let mut entry = entry.with_expires(None).into_changeable();
            is(&entry, b"another", None);
            entry.sds_mut().expect("it is changeable").append(b"!");
            assert_eq!(entry.string().map(|string| string.to_vec()), Some([text, b"!"].concat()));
            is(&copy, b"copy", AT);
        }
    }
}

#[test]
fn a_string_that_is_shared_is_copied_before_it_changes() {
    let mut entry = Entry::new(b"k", None, Value::Shared(Arc::new(Sds::from_slice(&[b'x'; 5000]))));
    let shared = entry.shared_string().expect("it is long");
    entry.sds_mut().expect("it is changeable").append(b"!");
    assert_eq!((shared.len(), Arc::strong_count(&shared)), (5000, 1));
    assert_eq!(entry.string().map(|string| string.to_vec().len()), Some(5001));
    drop(entry);
    assert_eq!(shared.len(), 5000);
}

#[test]
fn an_alarm_goes_where_its_entry_goes() {
    let mut hash = Hash::new();
    hash.set(b"f", Value::Int(1), &Limits::default());
    let mut entry = Entry::with_collection(b"key", None, hash);
    assert_eq!((entry.has_room_for_alarm(), entry.alarm(), entry.arm()), (false, None, None));
    entry.set_alarm(None);
    let bytes = entry.block_bytes();
    let mut entry = entry.with_room_for_alarm();
    assert_eq!((entry.block_bytes(), entry.alarm()), (bytes + ALARM, None));
    entry.set_alarm(AT);
    let entry = entry.with_room_for_alarm().with_expires(AT).renamed(b"a longer key", AT).with_expires(None);
    assert_eq!((entry.alarm(), entry.key(), entry.expires()), (AT, &b"a longer key"[..], None));
    assert_eq!(entry.collection::<Hash>().map(Describe::len), Some(1));
    assert_eq!(entry.duplicate(b"copy", None).alarm(), None, "a copy gets its own");
}

#[test]
fn a_hash_whose_fields_expire_comes_with_room() {
    let mut hash = Hash::new();
    let expiry = NewExpiry::At(UnixMillis(10));
    hash.put(b"f", Value::Int(1), expiry, &Limits::default(), UnixMillis(0));
    let mut entry = Entry::with_collection(b"key", None, hash);
    assert_eq!(
        (entry.alarm(), entry.arm(), entry.alarm()),
        (None, Some(UnixMillis(10)), Some(UnixMillis(10)))
    );
}

#[test]
#[should_panic(expected = "an entry without room has no alarm")]
fn an_alarm_needs_room() {
    Entry::with_collection(b"key", None, Set::new()).set_alarm(AT);
}
