//! What names may look like. Every name that a person or a guest chooses passes here once, at the edge.

use crate::limits;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than [`limits::NAME_BYTES`].
    #[error("it has {0} bytes, and at most {max} are allowed", max = limits::NAME_BYTES)]
    Long(usize),
    /// A character outside the allowed set.
    #[error("`{0}` is not allowed; use letters, digits, `-`, `_` and `.`")]
    Character(char),
    /// `.`, `..`, or a leading `-`.
    #[error("it may not be `.` or `..`, nor begin with `-`")]
    Form,
    /// Longer than [`limits::PATH_BYTES`].
    #[error("it has {0} bytes, and a path has at most {max}", max = limits::PATH_BYTES)]
    LongPath(usize),
    /// A character that no path here has.
    #[error("`{}` is not allowed in a path", .0.escape_debug())]
    PathCharacter(char),
    /// Not a relative path of plain parts.
    #[error("a path is relative, and its parts are neither empty nor `.` nor `..`")]
    Path,
}

/// Checks the name of a tenant, framework, module, or blob part: letters, digits, `-`, `_`, `.`; not `.` or `..`;
/// no leading `-`; at most [`limits::NAME_BYTES`].
///
/// # Errors
/// Says what is wrong with it.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > limits::NAME_BYTES {
        return Err(NameError::Long(name.len()));
    }
    if name == "." || name == ".." || name.starts_with('-') {
        return Err(NameError::Form);
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

/// Checks a role path: `*`, or names joined by `/` (Mesos, `docs/roles.md`).
///
/// # Errors
/// Says what is wrong with the first bad part.
pub fn check_role(role: &str) -> Result<(), NameError> {
    if role == "*" {
        return Ok(());
    }
    if role.len() > limits::NAME_BYTES {
        return Err(NameError::Long(role.len()));
    }
    role.split('/').try_for_each(check_name)
}

/// Checks a path inside a sandbox: relative, of plain parts, without `.` or `..`.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_sandbox_path(path: &str) -> Result<(), NameError> {
    if path.is_empty() {
        return Err(NameError::Empty);
    }
    if path.len() > limits::PATH_BYTES {
        return Err(NameError::LongPath(path.len()));
    }
    if let Some(c) = path.chars().find(|c| c.is_control() || *c == '\\') {
        return Err(NameError::PathCharacter(c));
    }
    let bad = path.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if bad { Err(NameError::Path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_no_empty_parts() {
        assert_eq!(check_role("*"), Ok(()));
        assert_eq!(check_role("acme/web"), Ok(()));
        for bad in ["", "/", "a//b", "a/", "/a", "a/..", "a/-b", "a b"] {
            assert!(check_role(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sandbox_paths_stay_inside() {
        assert_eq!(check_sandbox_path("in/part-1.txt"), Ok(()));
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a\0b", "a/."] {
            assert!(check_sandbox_path(bad).is_err(), "{bad:?}");
        }
    }
}
