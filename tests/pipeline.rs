//! Requests have the same replies whether they arrive one by one or many at once, so that their memory is prefetched
//! together while some of them change what others look up.

mod support;

use spinel::stdx::rng::Rng;
use support::{Client, ServerProcess, run};

/// More members than any sorted set that is not prefetched.
const MEMBERS: u64 = 6000;

/// A request on a large collection, a small one, a missing one, or a value of another type.
fn request(rng: &mut Rng) -> String {
    let key = ["zset", "zset", "hash", "set", "list", "small", "string", "absent"][rng.index(8)];
    let member = |rng: &mut Rng| format!("member:{}", rng.below(2 * MEMBERS));
    let rank = |rng: &mut Rng| rng.below(3 * MEMBERS) as i64 - (MEMBERS + MEMBERS / 2) as i64;
    let score = |rng: &mut Rng| match rng.below(10) {
        0 => "-inf".to_owned(),
        1 => "nan".to_owned(),
        _ => rng.below(1000).to_string(),
    };
    match rng.below(24) {
        0..3 => format!("ZADD {key} {} {}", score(rng), member(rng)),
        3 => format!("ZADD {key} XX GT CH {} {}", score(rng), member(rng)),
        4 => format!("ZREM {key} {}", member(rng)),
        5..7 => format!("ZRANK {key} {}", member(rng)),
        7 => format!("ZREVRANK {key} {} WITHSCORE", member(rng)),
        8 => format!("ZINCRBY {key} {} {}", score(rng), member(rng)),
        9 => format!("ZSCORE {key} {}", member(rng)),
        10 | 11 => {
            let start = rank(rng);
            format!("ZRANGE {key} {start} {} WITHSCORES", start + rng.below(40) as i64)
        }
        12 => format!("ZREVRANGE {key} {} {}", rank(rng), rank(rng) % 50),
        13 => format!("ZRANGE {key} {} +inf BYSCORE LIMIT 0 5", score(rng)),
        14 => format!("HSET {key} {} {}", member(rng), rng.below(100)),
        15 => format!("HGET {key} {}", member(rng)),
        16 => format!("HDEL {key} {}", member(rng)),
        17 => format!("HINCRBY {key} {} 3", member(rng)),
        18 => format!("SADD {key} {}", member(rng)),
        19 => format!("SISMEMBER {key} {}", member(rng)),
        20 => format!("SREM {key} {}", member(rng)),
        21 => format!("LRANGE {key} 0 3"),
        22 => format!("RPUSH {key} {}", member(rng)),
        _ => match rng.below(40) {
            0 => format!("DEL {key}"),
            1 => "FLUSHALL".to_owned(),
            2 => format!("RENAME {key} absent"),
            3 => "SELECT 1".to_owned(),
            4 => "SELECT 0".to_owned(),
            _ => format!("ZPOPMIN {key}"),
        },
    }
}

fn fill(client: &mut Client) {
    for i in 0..MEMBERS {
        let score = i * 7919 % 1000;
        let requests =
            format!("ZADD zset {score} member:{i}\r\nHSET hash member:{i} {i}\r\nSADD set member:{i}\r\n");
        client.send(requests.as_bytes()).expect("the server listens");
        (0..3).for_each(|_| drop(client.reply().expect("the server answers")));
    }
    run(client, "HSET small member:1 5 member:2 x");
    run(client, "RPUSH list a b c");
    run(client, "SET string text");
}

#[test]
fn replies_do_not_depend_on_what_arrives_together() {
    let options = ["--enable-debug-command", "yes"];
    let servers = [0, 1].map(|_| ServerProcess::start(&support::spinel(), &options));
    let [mut one_by_one, mut together] = [0, 1].map(|i| servers[i].client());
    let mut rng = Rng::new(12);
    for round in 0..300 {
        if round % 60 == 0 {
            fill(&mut one_by_one);
            fill(&mut together);
        }
        let requests: Vec<String> = (0..rng.below(60)).map(|_| request(&mut rng)).collect();
        let lines: String = requests.iter().map(|request| format!("{request}\r\n")).collect();
        together.send(lines.as_bytes()).expect("the server listens");
        for request in &requests {
            let alone = run(&mut one_by_one, request);
            let reply = together.reply().expect("the server answers");
            let reply = String::from_utf8_lossy(&reply);
            assert_eq!(reply.strip_suffix("\r\n"), Some(&*alone), "{request}");
        }
    }
    assert_eq!(run(&mut one_by_one, "DEBUG DIGEST"), run(&mut together, "DEBUG DIGEST"));
}
