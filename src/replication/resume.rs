//! Whether a replica can go on from where it stands.

use thiserror::Error;

use super::backlog::Backlog;
use super::history::{Foreign, History};
use crate::stdx::text::Lossy;

/// Why a replica is sent a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// It asks for one.
    #[error("it asks for everything")]
    Asked,
    /// It has data of a history that is not known here, or of what became of it after it ended here.
    #[error("its data are of another history")]
    Foreign(Foreign),
    /// The bytes that it misses are not kept.
    #[error("what it misses is not kept")]
    NotKept,
    /// It has more of the history than there is here.
    #[error("it is ahead")]
    Ahead,
}

/// Answers a request for the stream: `next` is the number of the first byte of the history `id` that the replica
/// misses, counted from 1. Returns the offset from which its stream goes on.
///
/// # Errors
/// Why it has to be sent a snapshot instead.
pub fn resume(history: &History, backlog: &Backlog, id: &[u8], next: i64) -> Result<u64, Refusal> {
    if id == b"?" {
        return Err(Refusal::Asked);
    }
    // A number that no byte has is refused like that of a byte that is not kept.
    let offset = u64::try_from(next).ok().and_then(|next| next.checked_sub(1));
    history.contains(id, offset.unwrap_or(0)).map_err(Refusal::Foreign)?;
    match offset {
        Some(offset) if backlog.reaches(offset) => Ok(offset),
        Some(offset) if offset > backlog.end() => Err(Refusal::Ahead),
        _ => Err(Refusal::NotKept),
    }
}

/// Writes the line that tells the log of a refusal. `name` is the replica's.
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
    fn who_is_sent_the_rest_and_who_a_snapshot() {
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
