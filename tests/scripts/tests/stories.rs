//! Every story is told as it is written down. `UPDATE=1` writes them anew; the change is read as a diff.

use std::path::Path;

#[test]
fn stories_are_told_as_they_are_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories");
    let mut told_stories = 0;
    for entry in std::fs::read_dir(folder).expect("the stories are there") {
        let path = entry.expect("a story").path();
        let written = std::fs::read_to_string(&path).expect("a story can be read");
        let told = tepui_scripts::tell(&written);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &told).expect("a story can be written");
        } else {
            assert_eq!(told, written, "{} is told otherwise", path.display());
        }
        told_stories += 1;
    }
    assert!(told_stories >= 6, "only {told_stories} stories");
}
