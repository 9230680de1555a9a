//! Uploads that begin and never end.

use futures_util::{StreamExt as _, stream};
use std::convert::Infallible;
use std::sync::Arc;
use tepui_e2e::{Cluster, guest};
use tepui_hostile::besieged;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// More than there are places for.
const UPLOADS: usize = 200;

#[test]
fn slow_uploads_stop_neither_outputs_nor_other_uploads() {
    let cluster = Cluster::start(1);
    let api = cluster.api();
    let (counter, source) = (guest("wordcount-task.wasm"), cluster.scratch("text"));
    std::fs::write(&source, "to be or not to be").unwrap();
    besieged(&cluster, 512 << 20, || {
        let mut uploads = JoinSet::new();
        let begun = Arc::new(Semaphore::new(0));
        for at in 0..UPLOADS {
            let url = format!("{}/v1/blobs/{at:064x}", api.url());
            let begun = Arc::clone(&begun);
            let first = one_byte(begun);
            let request = api.another().put(url).bearer_auth(api.token());
            let sent = async move { request.body(first).send().await };
            uploads.spawn_on(sent, api.runtime().handle());
        }
        api.runtime().block_on(async {
            drop(begun.acquire_many(UPLOADS.try_into().unwrap()).await.unwrap());
        });
        // A task with an output, and a person with a blob.
        let kept = cluster.scratch("kept");
        let (input, output) =
            (format!("{}=p0", source.display()), format!("out={}", kept.display()));
        let module = counter.display().to_string();
        let words = [
            "run",
            &module,
            "--input",
            &input,
            "--output",
            &output,
            "--",
            "map",
            "out",
            "0:0:18:1:p0",
        ];
        let ran = cluster.tepui(words);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(std::fs::metadata(&kept).unwrap().len() > 0);
        let put = cluster.tepui(["blob".as_ref(), "put".as_ref(), source.as_os_str()]);
        assert_eq!(put.code, 0, "{put:?}");
        // All of them are told why, and nothing of them stays.
        let mut codes = std::collections::BTreeSet::new();
        api.runtime().block_on(async {
            while let Some(ended) = uploads.join_next().await {
                let Ok(answer) = ended.unwrap() else { continue };
                assert!(answer.status().is_client_error(), "{answer:?}");
                let told: serde_json::Value = answer.json().await.unwrap();
                codes.insert(told.get("code").unwrap().as_str().unwrap().to_owned());
            }
        });
        assert!(codes.contains("upload-slow") && codes.contains("too-many-requests"), "{codes:?}");
    });
}

/// One byte, a sign that it was taken, and then nothing.
fn one_byte(begun: Arc<Semaphore>) -> reqwest::Body {
    let first = std::iter::once(Ok::<_, Infallible>(vec![0]));
    let silence = stream::once(async move {
        begun.add_permits(1);
        std::future::pending().await
    });
    reqwest::Body::wrap_stream(stream::iter(first).chain(silence))
}
