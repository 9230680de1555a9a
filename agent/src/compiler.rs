//! One module from the master's bytes to code for this machine, by a child with a deadline.
//!
//! Compiled code comes from this machine's own compiler alone. A child that was stopped from outside has said nothing of
//! the module: only what it says itself, or comes to by itself within bounds that are the same each time, is a verdict.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tepui_proto::limits;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use crate::fetch::{FetchError, Link};
use crate::modules::{Key, Outcome, kind_name};

/// A compiler's verdict on its standard output.
const VERDICT_BYTES: u64 = 64 * 1024;

/// What it takes to make modules. Clones are cheap.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    pub(crate) folder: Arc<str>,
    pub(crate) executable: Arc<Path>,
    /// Of the executable.
    pub(crate) tag: Arc<str>,
    pub(crate) link: Link,
}

/// How a child ended.
enum Ended {
    /// With the code.
    Done,
    /// Its time was over.
    Late,
    /// Without it.
    Said(Outcome),
}

/// Where a module is, at each step.
struct Paths {
    wasm: String,
    part: String,
    done: String,
}

impl Maker {
    /// Fetches the module; says how large it is. On failure nothing is left of it.
    pub(crate) async fn fetch(&self, key: Key) -> Result<u64, Outcome> {
        let wasm = self.paths(key).wasm;
        let mut link = self.link.clone();
        let outcome = match link.fetch(key.0, Path::new(&wasm), limits::MODULE_BYTES).await {
            Ok(size) => return Ok(size),
            Err(FetchError::Missing(why)) => Outcome::Missing(why),
            Err(FetchError::TooLarge(max)) => Outcome::Bad {
                code: "module-too-large".to_owned(),
                message: format!("the module is larger than {max} bytes"),
            },
            Err(error) => Outcome::Failed(error.to_string()),
        };
        remove(&wasm).await;
        Err(outcome)
    }

    /// Compiles what was fetched. None if it takes longer; what was fetched is there still, and nothing else.
    pub(crate) async fn compile(&self, key: Key, within: Duration) -> Option<Outcome> {
        let paths = self.paths(key);
        let begin = Instant::now();
        let outcome = match self.run(key, &paths, within).await {
            Ok(Ended::Late) => {
                remove(&paths.part).await;
                return None;
            }
            Ok(Ended::Said(outcome)) => outcome,
            Ok(Ended::Done) => match keep(&paths.part, &paths.done).await {
                Ok(size) => {
                    let compile_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
                    Outcome::Ready { path: paths.done.as_str().into(), size, compile_ms }
                }
                Err(error) => Outcome::Failed(format!("cannot keep the compiled module: {error}")),
            },
            Err(error) => Outcome::Failed(format!("cannot compile the module: {error}")),
        };
        remove(&paths.wasm).await;
        remove(&paths.part).await;
        Some(outcome)
    }

    /// What is said of a module for which there is no more time. It may compile elsewhere, or later.
    pub(crate) async fn give_up(&self, key: Key, within: Duration) -> Outcome {
        remove(&self.paths(key).wasm).await;
        Outcome::Failed(format!("it did not compile within {} s here", within.as_secs()))
    }

    fn paths(&self, (digest, kind): Key) -> Paths {
        let stem = format!("{}/{digest}.{}.{}", self.folder, kind_name(kind), self.tag);
        Paths {
            wasm: format!("{stem}.wasm"),
            part: format!("{stem}.part"),
            done: format!("{stem}.cwasm"),
        }
    }

    /// Runs the child to its end, or to the end of its time.
    async fn run(&self, key: Key, paths: &Paths, within: Duration) -> std::io::Result<Ended> {
        let mut command = Command::new(&*self.executable);
        command.args(["compile", "--kind", kind_name(key.1)]);
        command.args(["--in", &paths.wasm, "--out", &paths.part]);
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        // What it writes to before it renames.
        let unfinished = child.id().map(|id| format!("{}.{id}.part", paths.part));
        let ended = tokio::time::timeout(within, end_of(&mut child)).await;
        let ended = match ended {
            Ok(ended) => said(ended?),
            Err(_late) => {
                child.kill().await?;
                Ended::Late
            }
        };
        if let Some(unfinished) = unfinished {
            remove(&unfinished).await;
        }
        Ok(ended)
    }
}

async fn end_of(child: &mut Child) -> std::io::Result<(ExitStatus, Vec<u8>)> {
    let mut verdict = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // A verdict that cannot be read is no verdict.
        drop(stdout.take(VERDICT_BYTES).read_to_end(&mut verdict).await);
    }
    Ok((child.wait().await?, verdict))
}

/// What a child's end says of its module.
fn said((status, verdict): (ExitStatus, Vec<u8>)) -> Ended {
    #[derive(serde::Deserialize)]
    struct Verdict {
        code: String,
        message: String,
    }
    let too_much =
        |message: String| Outcome::Bad { code: "module-uncompilable".to_owned(), message };
    if status.success() {
        return Ended::Done;
    }
    Ended::Said(match (serde_json::from_slice(&verdict), status.signal()) {
        (Ok(Verdict { code, message }), _) if code.starts_with("module-") => {
            Outcome::Bad { code, message }
        }
        (Ok(Verdict { message, .. }), _) => Outcome::Failed(message),
        (Err(_), Some(signal)) if signal == rustix::process::Signal::XCPU.as_raw() => {
            let seconds = limits::COMPILE_CPU_MS / 1_000;
            too_much(format!("it takes more than {seconds} s of CPU to compile"))
        }
        (Err(_), Some(signal)) if signal == rustix::process::Signal::XFSZ.as_raw() => {
            too_much(format!("its compiled code has more than {} bytes", limits::COMPILED_BYTES))
        }
        // It came to this by itself: out of the memory that it may have, or crashed.
        (Err(_), Some(signal)) if signal == rustix::process::Signal::ABORT.as_raw() => {
            too_much(format!("the compiler ended with {status}"))
        }
        (Err(_), Some(_)) => Outcome::Failed(format!("the compiler was stopped: {status}")),
        (Err(_), None) => too_much(format!("the compiler ended with {status}")),
    })
}

/// Syncs and renames, so that the cache holds whole modules only, even after a crash of the machine.
async fn keep(part: &str, path: &str) -> std::io::Result<u64> {
    let file = tokio::fs::File::open(part).await?;
    file.sync_all().await?;
    let size = file.metadata().await?.len();
    tokio::fs::rename(part, path).await?;
    Ok(size)
}

/// Removes what may not be there.
async fn remove(path: &str) {
    drop(tokio::fs::remove_file(path).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use tepui_proto::Digest;
    use tepui_proto::control::ModuleKind;
    use tokio::sync::watch;

    const KEY: Key = (Digest([7; 32]), ModuleKind::CommandP1);
    const ENOUGH: Duration = Duration::from_mins(1);

    struct Fixture {
        folder: PathBuf,
        maker: Maker,
        _link: watch::Sender<Option<tepui_transport::Connection>>,
    }

    impl Fixture {
        /// With a compiler that is this text to a shell; `$OUT` is where the result goes.
        fn new(compiler: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("tepui-compiler-{:016x}", rand::random::<u64>()));
            let modules = folder.join("modules");
            std::fs::create_dir_all(&modules).unwrap();
            let executable = folder.join("compiler");
            std::fs::write(&executable, format!("#!/bin/sh\nOUT=$7\n{compiler}\n")).unwrap();
            std::fs::set_permissions(&executable, PermissionsExt::from_mode(0o700)).unwrap();
            let (sender, link) = watch::channel(None);
            let maker = Maker {
                folder: modules.to_str().unwrap().into(),
                executable: executable.into(),
                tag: "tag".into(),
                link: Link(link),
            };
            let fixture = Self { folder, maker, _link: sender };
            fixture.fetched();
            fixture
        }

        fn fetched(&self) {
            std::fs::write(self.maker.paths(KEY).wasm, "wasm").unwrap();
        }

        fn left(&self) -> Vec<String> {
            let entries = std::fs::read_dir(&*self.maker.folder).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.folder).unwrap();
        }
    }

    #[tokio::test]
    async fn an_endless_compiler_is_ended_and_leaves_nothing_and_the_next_one_runs() {
        let endless = "echo $$ > $(dirname $0)/pid; echo half > $OUT.$$.part; exec sleep 1000";
        let fixture = Fixture::new(endless);
        let maker = &fixture.maker;
        // Long enough for the shell to have written, which is looked at below.
        let mut within = Duration::from_millis(50);
        let pid = loop {
            assert!(maker.compile(KEY, within).await.is_none());
            if let Ok(pid) = std::fs::read_to_string(fixture.folder.join("pid")) {
                break pid;
            }
            within *= 2;
        };
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "the child is gone and reaped");
        assert_eq!(
            fixture.left().len(),
            1,
            "what was fetched is there still: {:?}",
            fixture.left()
        );
        let outcome = maker.give_up(KEY, within).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "no verdict: {outcome:?}");
        assert_eq!(fixture.left(), [""; 0]);
        fixture.fetched();
        std::fs::write(fixture.folder.join("compiler"), "#!/bin/sh\necho code > $7\n").unwrap();
        let outcome = maker.compile(KEY, ENOUGH).await.unwrap();
        assert!(matches!(outcome, Outcome::Ready { size: 5, .. }), "{outcome:?}");
        assert_eq!(fixture.left().len(), 1);
    }

    #[tokio::test]
    async fn only_what_a_compiler_came_to_by_itself_is_a_verdict() {
        for (compiler, code) in [
            ("kill -KILL $$", None),
            ("kill -TERM $$", None),
            (r#"echo '{"code":"agent-failed","message":"m"}'; exit 1"#, None),
            ("kill -XCPU $$", Some("module-uncompilable")),
            ("kill -ABRT $$", Some("module-uncompilable")),
            ("kill -XFSZ $$", Some("module-uncompilable")),
            ("exit 101", Some("module-uncompilable")),
            (r#"echo '{"code":"module-invalid","message":"m"}'; exit 1"#, Some("module-invalid")),
        ] {
            let fixture = Fixture::new(compiler);
            let outcome = fixture.maker.compile(KEY, ENOUGH).await.unwrap();
            let told = match &outcome {
                Outcome::Bad { code, .. } => Some(code.as_str()),
                Outcome::Failed(_) => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(told, code, "{compiler}: {outcome:?}");
            assert_eq!(fixture.left(), [""; 0], "{compiler}");
        }
    }
}
