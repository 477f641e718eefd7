//! `docs/bad-targets.md`: the tests that it names are there, and those here are in it.

use std::path::Path;

const PAGE: &str = include_str!("../../../../docs/bad-targets.md");

/// The names between backquotes that can be those of tests: words and nothing else.
fn named() -> Vec<&'static str> {
    let is_name = |name: &&str| {
        name.contains('_')
            && name.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let cells = PAGE
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.trim_end_matches('|').rsplit('|').next().into_iter());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(is_name).collect()
}

#[test]
fn the_tests_that_the_page_names_are_there() {
    let mut sources = String::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in std::fs::read_dir(crates).unwrap() {
        let folder = folder.unwrap().path();
        read_sources(&folder.join("src"), &mut sources);
        read_sources(&folder.join("tests"), &mut sources);
    }
    let named = named();
    assert!(named.len() > 60, "{}", named.len());
    for test in named {
        assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
    }
}

fn read_sources(folder: &Path, into: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            read_sources(&path, into);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_lie_that_is_tested_here_is_in_the_page() {
    let named = named();
    let sources = [include_str!("admin.rs"), include_str!("connecting.rs"), include_str!("io.rs")];
    for source in sources {
        for test in source.split("#[test]\nfn ").skip(1) {
            let name = test.split('(').next().unwrap();
            assert!(named.contains(&name), "docs/bad-targets.md does not name {name}");
        }
    }
}
