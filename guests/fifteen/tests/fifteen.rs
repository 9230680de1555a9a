//! The scheduler of the README does what it says.

use fifteen::Fifteen;
use tepui_sdk::testing::FakeCluster;

#[test]
fn it_launches_so_many_and_completes() {
    let mut cluster = FakeCluster::new().agent("a1", 1_000, 512).agent("tiny", 50, 512);
    cluster = cluster.submit::<Fifteen>(&[]);
    let mut round = 0;
    let outcome = cluster.run(1_000, |cluster| {
        round += 1;
        if round % 2 == 0 {
            cluster.drop_instance();
        }
        cluster.finish_all();
    });
    assert!(outcome.success);
    assert_eq!(cluster.launched().len(), 3);
    assert_eq!(cluster.expired_offers(), 0);
}
