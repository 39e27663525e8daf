//! Transactions: queuing requests after MULTI, running them for EXEC, and watched keys.

use crate::acl::{Context, Denied};
use crate::clients::multi::Transaction;
use crate::clients::{ClientFlags, ClientKey};
use crate::keyspace::Listeners;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::CommandId;
use crate::stdx::hash::Key;

impl Server {
    /// Queues a request of a client between MULTI and EXEC. The request is not stored if EXEC will fail anyway.
    pub(in crate::server) fn queue(&mut self, key: ClientKey, id: CommandId, args: &Args<'_>) {
        let watch_broken = self.clients[key].flags.has(ClientFlags::WATCH_BROKEN);
        if let Some(transaction) =
            self.clients[key].open_transaction().filter(|kept| !kept.broken && !watch_broken)
        {
            transaction.push(id.0, args);
        }
        self.reply(key).simple("QUEUED");
    }

    /// Runs the requests of a transaction in order.
    pub fn run_transaction(&mut self, key: ClientKey, transaction: &Transaction) {
        self.nested(self.execution.origin, |server| {
            for (command, args) in transaction.iter() {
                server.call_queued(key, command, args);
            }
        });
    }

    fn call_queued(&mut self, key: ClientKey, command: u16, args: Args<'_>) {
        let id = CommandId(command);
        let spec = self.commands.spec(id);
        // The user may have changed since the request was queued.
        if let Err(denied) = self.permit(key, id, spec, &args, Context::Multi) {
            let reason = match denied {
                Denied::Database(_) => "no permission",
                Denied::Command => "no permission to execute the command or subcommand",
                Denied::Key(_) => "no permission to touch the specified keys",
                Denied::Channel(_) => {
                    "no permission to access one of the channels used as arguments to the command"
                }
            };
            let error = Error::text(format!(
                "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. \
                 This command is no longer allowed for the following reason: {reason}"
            ));
            self.stats.commands[command as usize].rejected += 1;
            return self.refuse(key, &error);
        }
        self.call(key, id, spec, &args);
    }

    /// Ends the state between MULTI and EXEC, and stops watching keys.
    pub fn end_transaction(&mut self, key: ClientKey) {
        self.unwatch(key);
        let client = &mut self.clients[key];
        client.flags.set(ClientFlags::IN_MULTI, false);
        client.transaction = None;
    }

    /// Stops watching all keys of a client.
    pub fn unwatch(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        client.flags.set(ClientFlags::WATCH_BROKEN, false);
        client.watched_bytes = 0;
        let watched = std::mem::take(&mut client.watched);
        if !watched.is_empty() {
            self.clients.watches.remove(key, watched);
            let any = !self.clients.watches.is_empty();
            self.keyspace.ledger.listeners.set(Listeners::WATCH, any);
        }
    }

    /// Whether a key that the client watches was changed, or has expired, since WATCH.
    pub fn watch_is_broken(&mut self, key: ClientKey) -> bool {
        if self.clients[key].flags.has(ClientFlags::WATCH_BROKEN) {
            return true;
        }
        let clients = &self.clients;
        let keyspace = &mut self.keyspace;
        clients[key].watched.iter().any(|(db, name)| {
            clients.watches.existed(key, *db, name) && !keyspace.db(*db as usize).exists_now(Key::new(name))
        })
    }
}
