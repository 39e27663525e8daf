//! Sessions that a client may resume, which spares both sides most of a handshake.
//!
//! Clients keep their sessions themselves, as tickets that only this server can read. For those of version 1.2 that do
//! not know tickets, sessions are kept here, as many as `tls-session-cache-size` permits. Both are good for
//! `tls-session-cache-timeout` seconds. A change of the configuration forgets all: who was let in under another one
//! must show its certificate again.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::server::{ProducesTickets, StoresServerSessions};

use crate::stdx::sync::Mutex;

/// A ticket is not longer: what is longer was not made here.
const LONGEST_TICKET: usize = 64 << 10;

/// Makes tickets, and reads those that it made within their time.
pub(super) struct Tickets {
    timeout: Duration,
    /// Newest first; a ticket of an older key is too old.
    keys: Mutex<TicketKeys>,
}

struct TicketKeys {
    present: TicketKey,
    former: Option<TicketKey>,
}

struct TicketKey {
    key: LessSafeKey,
    made: Duration,
}

impl TicketKey {
    fn new(now: Duration) -> Option<TicketKey> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).ok()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?);
        Some(TicketKey { key, made: now })
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Tickets {
    /// `None` if the system has no random numbers.
    pub(super) fn new(timeout: Duration) -> Option<Tickets> {
        let keys = TicketKeys { present: TicketKey::new(now())?, former: None };
        Some(Tickets { timeout, keys: Mutex::new(keys) })
    }

    fn encrypt_at(&self, plain: &[u8], now: Duration) -> Option<Vec<u8>> {
        let mut keys = self.keys.lock().ok()?;
        if now.saturating_sub(keys.present.made) > self.timeout {
            let new = TicketKey::new(now)?;
            keys.former = Some(std::mem::replace(&mut keys.present, new));
        }
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut ticket = nonce.to_vec();
        ticket.extend_from_slice(&now.as_secs().to_be_bytes());
        ticket.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = &mut ticket[NONCE_LEN..];
        let tag = keys.present.key.seal_in_place_separate_tag(nonce, Aad::empty(), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt_at(&self, ticket: &[u8], now: Duration) -> Option<Vec<u8>> {
        if ticket.len() > LONGEST_TICKET {
            return None;
        }
        let (nonce, sealed) = ticket.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.lock().ok()?;
        let opened = [Some(&keys.present), keys.former.as_ref()].into_iter().flatten().find_map(|key| {
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let len = key.key.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?.len();
            sealed.truncate(len);
            Some(sealed)
        })?;
        let (made, plain) = opened.split_first_chunk::<8>()?;
        let age = now.as_secs().checked_sub(u64::from_be_bytes(*made))?;
        (age <= self.timeout.as_secs()).then(|| plain.to_vec())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.timeout.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(cipher, now())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Sessions that are kept for clients that keep none themselves.
pub(super) struct Cache {
    /// Most sessions; 0 for no limit.
    size: usize,
    timeout: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    sessions: HashMap<Vec<u8>, (Duration, Vec<u8>)>,
    /// Names in the order of arrival; some may be gone.
    order: VecDeque<Vec<u8>>,
}

impl Cache {
    pub(super) fn new(size: usize, timeout: Duration) -> Cache {
        Cache { size, timeout, kept: Mutex::new(Kept::default()) }
    }

    fn put_at(&self, id: Vec<u8>, session: Vec<u8>, now: Duration) -> bool {
        let Ok(mut kept) = self.kept.lock() else { return false };
        if kept.sessions.insert(id.clone(), (now, session)).is_none() {
            kept.order.push_back(id);
        }
        while let Some(oldest) = kept.order.front() {
            let age = kept.sessions.get(oldest).map(|(since, _)| now.saturating_sub(*since));
            let crowded = self.size > 0 && kept.sessions.len() > self.size;
            if !crowded && age.is_some_and(|age| age <= self.timeout) {
                break;
            }
            if let Some(oldest) = kept.order.pop_front() {
                kept.sessions.remove(&oldest);
            }
        }
        true
    }

    fn get_at(&self, id: &[u8], now: Duration) -> Option<Vec<u8>> {
        let kept = self.kept.lock().ok()?;
        let (since, session) = kept.sessions.get(id)?;
        (now.saturating_sub(*since) <= self.timeout).then(|| session.clone())
    }
}

impl StoresServerSessions for Cache {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        self.put_at(id, session, now())
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.get_at(id, now())
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        let found = self.get_at(id, now());
        if let Ok(mut kept) = self.kept.lock() {
            kept.sessions.remove(id);
        }
        found
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn tickets_are_good_for_their_time() {
        let start = now();
        let tickets = Tickets::new(seconds(300)).expect("random numbers");
        let first = tickets.encrypt_at(b"session", start).expect("a ticket");
        assert_eq!(tickets.decrypt_at(&first, start + seconds(300)).as_deref(), Some(&b"session"[..]));
        // Others get tickets of a new key meanwhile.
        let second = tickets.encrypt_at(b"other", start + seconds(302)).expect("a ticket");
        assert_eq!(tickets.decrypt_at(&first, start + seconds(301)), None);
        assert_eq!(tickets.decrypt_at(&second, start + seconds(303)).as_deref(), Some(&b"other"[..]));
        assert_eq!(tickets.decrypt_at(&second, start), None);
        let other = Tickets::new(seconds(300)).expect("random numbers");
        assert_eq!(other.decrypt_at(&second, start + seconds(303)), None);
        for i in 0..second.len() {
            let mut changed = second.clone();
            changed[i] ^= 0x10;
            assert_eq!(tickets.decrypt_at(&changed, start + seconds(303)), None);
            assert_eq!(tickets.decrypt_at(&second[..i], start + seconds(303)), None);
        }
    }

    #[test]
    fn the_cache_forgets_the_oldest_and_the_old() {
        let cache = Cache::new(2, seconds(10));
        for i in 0..3 {
            assert!(cache.put_at(vec![i], vec![i; 3], seconds(u64::from(i))));
        }
        assert_eq!(cache.get_at(&[0], seconds(3)), None);
        assert_eq!(cache.get_at(&[1], seconds(3)), Some(vec![1; 3]));
        assert_eq!(cache.get_at(&[1], seconds(12)), None);
        assert!(cache.put_at(vec![9], vec![9], seconds(30)));
        let kept = cache.kept.lock().expect("not poisoned");
        assert_eq!((kept.sessions.len(), kept.order.len()), (1, 1));
    }
}
