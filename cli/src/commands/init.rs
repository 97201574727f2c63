//! `lakebed init`: a new project, whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lakebed_project::CONFIG_FILE;

use crate::arguments::InitArguments;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::starter;

/// What is never to be committed to the user's repository.
const GITIGNORE: &str = "/lake/\n/.lakebed/\n/users.toml\n";

/// Makes the project and says what to do next.
pub(crate) fn init(arguments: &InitArguments, output: &Output) -> Result<()> {
    make(&arguments.directory)?;
    let directory = arguments.directory.display();
    output.say(&format!("made the project '{directory}': lakebed.toml, and {} models under sql/", starter::models()));
    output.say(&format!(
        "next: lakebed generate | lakebed --project {directory} ingest && lakebed --project {directory} run"
    ));
    Ok(())
}

/// Makes a project. Everything is written under another name first, in the directory if it is there, which may be a mount; what is there
/// of it stays.
///
/// # Errors
/// [`Error::ProjectExists`] and [`Error::InTheWay`], [`Error::NoName`] for a path such as `/`.
pub(crate) fn make(directory: &Path) -> Result<()> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source: io::Error| Error::File { path, source }
    };
    if directory.join(CONFIG_FILE).exists() {
        return Err(Error::ProjectExists { directory: directory.to_path_buf() });
    }
    let absolute = std::path::absolute(directory).map_err(failed(directory))?;
    let whole = if absolute.exists() { absolute.canonicalize().map_err(failed(&absolute))? } else { absolute };
    let (Some(name), Some(parent)) = (whole.file_name(), whole.parent()) else {
        return Err(Error::NoName { directory: directory.to_path_buf() });
    };
    let name = name.to_string_lossy();
    fs::create_dir_all(parent).map_err(failed(parent))?;
    let within = if whole.exists() { &whole } else { parent };
    let draft = within.join(format!(".{name}.lakebed-init-{}", std::process::id()));
    let made = write(&draft, &name).and_then(|()| publish(&draft, &whole));
    if made.is_err() {
        // Whatever went wrong is told; a draft that cannot be removed is only untidy.
        let _ = fs::remove_dir_all(&draft);
    }
    made
}

fn write(draft: &Path, name: &str) -> Result<()> {
    let config = starter::config(name);
    let files = starter::FILES.iter().copied().chain([(".gitignore", GITIGNORE), (CONFIG_FILE, config.as_str())]);
    for (path, text) in files {
        let path = draft.join(path);
        let written = match path.parent() {
            Some(parent) => fs::create_dir_all(parent).and_then(|()| fs::write(&path, text)),
            None => Ok(()),
        };
        written.map_err(|source| Error::File { path: path.clone(), source })?;
    }
    Ok(())
}

/// Gives the draft its place: at once where there is nothing, else entry by entry, the lakebed.toml last.
fn publish(draft: &Path, whole: &Path) -> Result<()> {
    let rename = |from: &Path, to: PathBuf| fs::rename(from, &to).map_err(|source| Error::File { path: to, source });
    if !whole.exists() {
        return rename(draft, whole.to_path_buf());
    }
    let entries = ["sql", CONFIG_FILE];
    if let Some(taken) = entries.iter().map(|entry| whole.join(entry)).find(|path| path.exists()) {
        return Err(Error::InTheWay { path: taken });
    }
    if !whole.join(".gitignore").exists() {
        rename(&draft.join(".gitignore"), whole.join(".gitignore"))?;
    }
    for entry in entries {
        rename(&draft.join(entry), whole.join(entry))?;
    }
    fs::remove_dir_all(draft).map_err(|source| Error::File { path: draft.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_project_comes_whole_and_nothing_else_does() {
        let root = tempfile::tempdir().unwrap();
        make(&root.path().join("deep/shop")).unwrap();
        assert_eq!(names(&root.path().join("deep")), ["shop"]);
        assert_eq!(names(&root.path().join("deep/shop")), [".gitignore", "lakebed.toml", "sql"]);
        for (path, text) in starter::FILES {
            assert_eq!(fs::read_to_string(root.path().join("deep/shop").join(path)).unwrap(), *text);
        }
    }

    #[test]
    fn a_project_is_never_written_over() {
        let root = tempfile::tempdir().unwrap();
        let shop = root.path().join("shop");
        make(&shop).unwrap();
        fs::write(shop.join("lakebed.toml"), "mine").unwrap();
        assert!(matches!(make(&shop), Err(Error::ProjectExists { .. })));
        assert_eq!(fs::read_to_string(shop.join("lakebed.toml")).unwrap(), "mine");
        assert_eq!(names(root.path()), ["shop"]);
    }

    #[test]
    fn what_is_in_the_directory_stays_and_what_is_in_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        let shop = root.path().join("shop");
        fs::create_dir_all(shop.join("sql")).unwrap();
        fs::write(shop.join(".gitignore"), "mine").unwrap();
        let refused = make(&shop).unwrap_err();
        assert!(matches!(&refused, Error::InTheWay { path } if path.ends_with("shop/sql")), "{refused}");
        assert_eq!(names(&shop), [".gitignore", "sql"]);
        fs::remove_dir(shop.join("sql")).unwrap();
        make(&shop).unwrap();
        assert_eq!(fs::read_to_string(shop.join(".gitignore")).unwrap(), "mine");
        assert_eq!(names(root.path()), ["shop"]);
    }
}
