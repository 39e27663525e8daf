//! Decides whether a replica can continue the stream from its offset.

use thiserror::Error;

use super::backlog::Backlog;
use super::history::{Foreign, History};
use crate::stdx::text::Lossy;

/// Why a replica needs a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The replica asked for a snapshot.
    #[error("it asks for everything")]
    Asked,
    /// The replica's history is not known here, or the replica followed it beyond the offset at which it ended here.
    #[error("its data are of another history")]
    Foreign(Foreign),
    /// The backlog no longer has the bytes that the replica is missing.
    #[error("what it misses is not kept")]
    NotKept,
    /// The replica's offset is beyond the end of the backlog.
    #[error("it is ahead")]
    Ahead,
}

/// Decides about a request `PSYNC id next`, in which `next` is the number of the first byte of the history `id` that
/// the replica is missing, counted from 1. Returns the offset from which the stream continues.
///
/// # Errors
/// The replica needs a snapshot.
pub fn resume(history: &History, backlog: &Backlog, id: &[u8], next: i64) -> Result<u64, Refusal> {
    if id == b"?" {
        return Err(Refusal::Asked);
    }
    // Numbers below 1 refer to no byte and are refused like those of bytes that are no longer kept.
    let offset = u64::try_from(next).ok().and_then(|next| next.checked_sub(1));
    history.contains(id, offset.unwrap_or(0)).map_err(Refusal::Foreign)?;
    match offset {
        Some(offset) if backlog.reaches(offset) => Ok(offset),
        Some(offset) if offset > backlog.end() => Err(Refusal::Ahead),
        _ => Err(Refusal::NotKept),
    }
}

/// Log message about a refusal. `name` is the name of the replica.
pub fn explain(refusal: Refusal, history: &History, name: &str, id: &[u8], next: i64) -> String {
    match refusal {
        Refusal::Asked => format!("Full resync requested by replica {name}"),
        Refusal::Foreign(Foreign::Unknown) => {
            let former = history.former.map_or(super::ReplicationId::NONE, |(id, _)| id);
            format!(
                "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{}', my replication \
                 IDs are '{}' and '{former}')",
                Lossy(id),
                history.id
            )
        }
        Refusal::Foreign(Foreign::EndedAt(end)) => format!(
            "Partial resynchronization not accepted: Requested offset for second ID was {next}, but I can reply up to {}",
            end + 1
        ),
        Refusal::NotKept | Refusal::Ahead => format!(
            "Unable to partial resync with replica {name} for lack of backlog (Replica request was: {next})."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    #[test]
    fn a_request_leads_to_the_rest_or_to_a_snapshot() {
        let mut rng = Rng::new(3);
        let (mut history, mut backlog) = (History::new(&mut rng), Backlog::default());
        let first = history.id;
        let ask = |history: &History, backlog: &Backlog, id: &[u8], next| resume(history, backlog, id, next);
        assert_eq!(ask(&history, &backlog, first.as_bytes(), 1), Err(Refusal::NotKept));
        backlog.restart(100);
        backlog.activate();
        backlog.append(b"0123456789");
        for (next, answer) in [
            (101, Ok(100)),
            (111, Ok(110)),
            (100, Err(Refusal::NotKept)),
            (112, Err(Refusal::Ahead)),
            (0, Err(Refusal::NotKept)),
            (-1, Err(Refusal::NotKept)),
            (i64::MIN, Err(Refusal::NotKept)),
            (i64::MAX, Err(Refusal::Ahead)),
        ] {
            assert_eq!(ask(&history, &backlog, first.as_bytes(), next), answer, "{next}");
            assert_eq!(ask(&history, &backlog, b"?", next), Err(Refusal::Asked));
            let unknown = Err(Refusal::Foreign(Foreign::Unknown));
            assert_eq!(ask(&history, &backlog, &[b'0'; 40], next), unknown);
            assert_eq!(ask(&history, &backlog, b"", next), unknown);
        }
        history.branch(110, &mut rng);
        backlog.append(b"abc");
        assert_eq!(ask(&history, &backlog, first.as_bytes(), 111), Ok(110));
        let ended = Err(Refusal::Foreign(Foreign::EndedAt(110)));
        assert_eq!(ask(&history, &backlog, first.as_bytes(), 112), ended);
        assert_eq!(ask(&history, &backlog, history.id.as_bytes(), 114), Ok(113));
    }
}
