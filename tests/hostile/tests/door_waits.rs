//! Somebody with the token who asks for everything at once, and waits.

use std::time::{Duration, Instant};
use tepui_e2e::Cluster;
use tepui_hostile::besieged;
use tokio::task::JoinSet;

/// HTTP/2 connections of the attacker, and requests on each.
const CONNECTIONS: usize = 18;
const REQUESTS: usize = 250;

#[test]
fn thousands_of_long_polls_keep_out_neither_runs_nor_operators() {
    let cluster = Cluster::start(1);
    let api = cluster.api();
    let url = format!("{}/v1/cluster?agents=1000&timeout_ms=300000", api.url());
    besieged(&cluster, 512 << 20, || {
        let mut polls = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let client = api.another();
            // Until it has a connection, a client would open one for each request.
            let first = client.get(format!("{}/v1/cluster", api.url())).bearer_auth(api.token());
            let first = api.runtime().block_on(async { first.send().await.unwrap() });
            assert_eq!(first.version(), reqwest::Version::HTTP_2);
            for _ in 0..REQUESTS {
                let request = client.get(&url).bearer_auth(api.token());
                let asked = async move {
                    // Whoever was answered asks again, as an attacker would.
                    loop {
                        let again = request.try_clone().unwrap();
                        if again.send().await.is_err() {
                            return;
                        }
                    }
                };
                polls.spawn_on(asked, api.runtime().handle());
            }
        }
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed() < Duration::from_secs(5) {
            // On connections of their own each time, as a verb of the command line has.
            let asked = Instant::now();
            let listed = cluster.tepui(["agent", "ls"]);
            assert_eq!(listed.code, 0, "{listed:?}");
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
            count += 1;
        }
        assert!(count >= 10, "only {count} looks in 5 s");
        drop(polls);
    });
}
