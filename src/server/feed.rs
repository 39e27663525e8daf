//! How a command is passed on to the AOF and to replicas.

/// What to pass on, if the command changed something.
#[derive(Default, Debug)]
pub enum Feed {
    /// Nobody listens: nothing is kept.
    Unheard,
    /// The request, byte for byte.
    #[default]
    AsReceived,
    /// Nothing at all.
    Nothing,
    /// This RESP instead, one or more requests.
    Instead(Vec<u8>),
}

impl Feed {
    /// Passes on the request made of `args` instead of the one received.
    pub fn instead(&mut self, args: &[&[u8]]) {
        if matches!(self, Feed::Unheard) {
            return;
        }
        let mut out = match std::mem::take(self) {
            Feed::Instead(out) => out,
            _ => Vec::new(),
        };
        crate::resp::request::write_request(&mut out, args.iter().copied());
        *self = Feed::Instead(out);
    }
}
