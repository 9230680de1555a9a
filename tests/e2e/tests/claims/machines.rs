//! A cluster as OPERATING sets one up on real machines, verb by verb.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Child;
use tepui_e2e::{Api, PATIENCE, Program, Ran, Watched, tepui_program};

/// A part that ends with its standard input, and so with this.
struct Part(Child);

impl Part {
    fn start(words: &[&str], folder: &Path) -> Self {
        let words = words.iter().copied().chain(["--with-parent"]);
        Self(Program::new(tepui_program(), words).within(folder).spawn())
    }

    fn end(mut self) {
        let watched = Watched::of(self.0.id());
        drop(self.0.stdin.take());
        assert!(watched.ended_within(PATIENCE));
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn tepui(words: &[&str], folder: &Path) -> Ran {
    Program::new(tepui_program(), words).within(folder).without_env("TEPUI_CONTEXT").run()
}

fn bits(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Everything below a folder.
fn all_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![folder.to_owned()];
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    for entry in entries {
        if entry.file_type().unwrap().is_dir() {
            found.extend(all_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn assert_wrong_identities_are_refused(folder: &Path) {
    for refused in [
        "cluster identity agent a1 --dir cluster --out a1.pem",
        "cluster identity agent a/1 --dir cluster --out other.pem",
        "cluster identity agent a2 --dir nowhere --out a2.pem",
    ] {
        let words: Vec<&str> = refused.split(' ').collect();
        assert_ne!(tepui(&words, folder).code, 0, "{refused}");
    }
}

/// A run that is asked for while no agent is there.
fn assert_a_run_says_that_nobody_is_there(folder: &Path, module: &str) {
    let words = ["--context", "context.toml", "run", module];
    let mut run = Part(Program::new(tepui_program(), words).within(folder).spawn());
    let mut stderr = BufReader::new(run.0.stderr.take().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    let reads = std::thread::spawn(move || {
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        tell.send(line).unwrap();
    });
    let said = told.recv_timeout(PATIENCE);
    drop(run);
    reads.join().unwrap();
    let expected =
        "note: the run is not taken on yet: of 1 agents none is connected; see `tepui agent ls`\n";
    assert_eq!(said.as_deref(), Ok(expected));
}

#[test]
fn parts_that_are_set_up_wrong_say_so_and_end() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    for words in [
        "cluster init cluster",
        "cluster identity master m1 --dir cluster --out m1.pem",
        "cluster identity agent a1 --dir cluster --out a1.pem",
    ] {
        let _ran = tepui(&words.split(' ').collect::<Vec<_>>(), folder).good();
    }
    let master =
        "master --dir master --http 127.0.0.1:0 --quic 127.0.0.1:0 --token-file cluster/token";
    let agent = "agent --name a1 --dir agent --cpus 1";
    for (part, rest, code, word) in [
        (master, "--identity a1.pem", "identity", "the certificate is for agent `a1`"),
        (
            master,
            "--identity m1.pem --disk-reserve 999TiB",
            "master-io",
            "a reserve of 1022976 GiB",
        ),
        (
            agent,
            "--identity m1.pem --master 127.0.0.1:1",
            "identity",
            "the certificate is for master `m1`",
        ),
        (
            agent,
            "--identity a1.pem --master 127.0.0.1:1 --memory 60",
            "agent-config",
            "60 bytes are too few",
        ),
        (
            agent,
            "--identity a1.pem --master 127.0.0.1",
            "agent-config",
            "`127.0.0.1` is not HOST:PORT",
        ),
    ] {
        let words = part.split(' ').chain(rest.split(' ')).collect::<Vec<_>>();
        let ran = tepui(&words, folder);
        assert_eq!(ran.code, 1, "{rest}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("ended: {code}")), "{}", ran.stderr);
        assert!(ran.stderr.contains(word), "{}", ran.stderr);
    }
}

#[test]
fn a_cluster_is_set_up_by_the_words_of_the_manual_and_is_its_owners_alone() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        tepui(&words, folder).good()
    };
    // The words of docs/OPERATING.md: bare names, in the folder where one stands.
    let manual = fs::read_to_string(tepui_e2e::root().join("docs/OPERATING.md")).unwrap();
    for words in [
        "tepui cluster init cluster",
        "tepui cluster identity master m1 --dir cluster --host 10.0.0.5 --out m1.pem",
        "tepui cluster identity agent a1 --dir cluster --out a1.pem",
    ] {
        assert!(manual.contains(words), "the manual does not say `{words}`");
        let _ran = run(words.trim_start_matches("tepui "));
    }
    assert_wrong_identities_are_refused(folder);
    // A folder that somebody made before, and that anyone may look into.
    fs::create_dir(folder.join("master")).unwrap();
    fs::set_permissions(folder.join("master"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(
        folder.join("master.toml"),
        "dir = \"master\"\nhttp = \"127.0.0.1:0\"\nquic = \"127.0.0.1:0\"\nidentity = \"m1.pem\"\n\
         token_file = \"cluster/token\"\ndisk_reserve = \"256MiB\"\n",
    )
    .unwrap();
    let mut master = Part::start(&["master", "--config", "master.toml"], folder);
    let mut ready = String::new();
    BufReader::new(master.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let ready: serde_json::Value =
        serde_json::from_str(ready.trim().strip_prefix("ready ").unwrap()).unwrap();
    let address = |key: &str| ready.get(key).unwrap().as_str().unwrap().to_owned();
    let agent = format!(
        "name = \"a1\"\ndir = \"agent\"\nmaster = [\"{}\"]\nidentity = \"a1.pem\"\ncpus = \"1\"\n",
        address("quic")
    );
    fs::write(folder.join("agent.toml"), agent).unwrap();
    let agent = Part::start(&["agent", "--config", "agent.toml"], folder);
    let token = fs::read_to_string(folder.join("cluster/token")).unwrap();
    let context = format!(
        "name = \"c\"\nurl = \"{}\"\nca = \"{}\"\ntoken = \"{}\"\n",
        address("url"),
        folder.join("cluster/authority/ca.pem").display(),
        token.trim()
    );
    fs::write(folder.join("context.toml"), context).unwrap();
    fs::set_permissions(folder.join("context.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let ask = |words: &[&str]| {
        let words = ["--context", "context.toml"].iter().chain(words).copied().collect::<Vec<_>>();
        tepui(&words, folder).good()
    };
    // A module is compiled by an agent, so one has to be there.
    Api::new(&folder.join("context.toml")).wait_agents(1);
    let hello = tepui_e2e::guest("hello.wasm").display().to_string();
    assert_eq!(ask(&["run", &hello, "--", "there"]).text(), "hello there\n");
    let status = ask(&["cluster", "status", "-o", "json"]).json();
    assert_eq!(status.get("agents"), Some(&serde_json::json!(1)));
    for (path, most) in
        [("cluster", 0o700), ("master", 0o700), ("m1.pem", 0o600), ("a1.pem", 0o600)]
    {
        assert_eq!(bits(&folder.join(path)), most, "{path}");
    }
    for path in all_below(&folder.join("master")) {
        assert_eq!(bits(&path) & 0o077, 0, "{}", path.display());
    }
    agent.end();
    assert_a_run_says_that_nobody_is_there(folder, &hello);
    master.0.stdout.take();
    master.end();
}
