use spinel::{background::Background, commands, config::Config, net, server::Server};
use std::sync::Arc;

#[global_allocator]
static GLOBAL: spinel::stdx::alloc::Jemalloc = spinel::stdx::alloc::Jemalloc;

fn main() {
    spinel::stdx::alloc::count_this_thread();
    let mut config = Config::default();
    let args: Vec<String> = std::env::args().collect();
    if let Some(i) = args.iter().position(|a| a == "--port") {
        config.net.port = args[i + 1].parse().unwrap();
    }
    let background = Arc::new(Background::start(None).unwrap());
    let mut server = Server::new(config, commands::ALL, background);
    let mut poll = net::poll::Poll::new().unwrap();
    let signals = net::signals::Signals::install(&poll.waker()).unwrap();
    let l = net::listener::listen_tcp(&server.config.net.bind, server.config.net.port, 511).unwrap();
    server.listen_on(l);
    server.run(&mut poll, &signals).unwrap();
}
