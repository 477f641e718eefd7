//! What stands in a plan for something that is known only later: `${NAME}` is given on the command
//! line, `{name}` is different in every run.

use std::collections::BTreeMap;

/// A `{name}` that nothing gives a value to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unknown(pub String);

/// Puts values in place of `${NAME}`; returns the name of one that has none instead.
pub(crate) fn expand(text: &str, values: &BTreeMap<String, String>) -> Result<String, Unknown> {
    replace(text, "${", |name| {
        Some(values.get(name).cloned().ok_or_else(|| Unknown(name.to_owned())))
    })
}

/// Puts values in place of `{name}`. Braces around anything else stay: JSON has many.
pub(crate) fn fill(text: &str, values: &BTreeMap<&str, String>) -> Result<String, Unknown> {
    replace(text, "{", |name| {
        is_name(name).then(|| values.get(name).cloned().ok_or_else(|| Unknown(name.to_owned())))
    })
}

/// The same for a whole command; an element that is a list, `{name...}`, becomes what is in it.
pub(crate) fn fill_command(
    command: &[String],
    values: &BTreeMap<&str, String>,
    lists: &BTreeMap<&str, Vec<String>>,
) -> Result<Vec<String>, Unknown> {
    let mut filled = Vec::new();
    for element in command {
        let list = element.strip_prefix('{').and_then(|e| e.strip_suffix("...}"));
        match list {
            None => filled.push(fill(element, values)?),
            Some(name) => {
                for part in lists.get(name).ok_or_else(|| Unknown(name.to_owned()))? {
                    filled.push(fill(part, values)?);
                }
            }
        }
    }
    Ok(filled)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// Replaces what is between `open` and the next `}`, where `value` does not say that it should stay.
fn replace(
    text: &str,
    open: &str,
    value: impl Fn(&str) -> Option<Result<String, Unknown>>,
) -> Result<String, Unknown> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(open) {
        result.push_str(before);
        match behind.split_once('}').and_then(|(name, after)| Some((value(name)?, after))) {
            Some((value, after)) => {
                result.push_str(&value?);
                rest = after;
            }
            None => {
                result.push_str(open);
                rest = behind;
            }
        }
    }
    result.push_str(rest);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_command_line_are_put_in_or_named() {
        let values = BTreeMap::from([("DIR".to_owned(), "/opt/x".to_owned())]);
        assert_eq!(expand("${DIR}/bin:{port}", &values), Ok("/opt/x/bin:{port}".to_owned()));
        assert_eq!(expand("$DIR {DIR} ${", &values), Ok("$DIR {DIR} ${".to_owned()));
        assert_eq!(expand("${DIR}${OTHER}", &values), Err(Unknown("OTHER".to_owned())));
    }

    #[test]
    fn names_of_a_run_are_put_in_and_other_braces_stay() {
        let values = BTreeMap::from([("port", "44".to_owned())]);
        let json = r#"{"a": {}, "b": {"port": "{port}"}}"#;
        assert_eq!(fill(json, &values), Ok(r#"{"a": {}, "b": {"port": "44"}}"#.to_owned()));
        assert_eq!(fill("{prot}", &values), Err(Unknown("prot".to_owned())));
    }

    #[test]
    fn a_list_becomes_any_number_of_arguments() {
        let values = BTreeMap::from([("mix", "70".to_owned())]);
        let lists = BTreeMap::from([
            ("mix", vec!["-M".to_owned(), "{mix}".to_owned()]),
            ("digests", Vec::new()),
        ]);
        let command = ["perf", "{mix...}", "{digests...}", "-q"].map(str::to_owned);
        let filled = fill_command(&command, &values, &lists).unwrap();
        assert_eq!(filled, ["perf", "-M", "70", "-q"]);
        let unknown = fill_command(&["{rest...}".to_owned()], &values, &lists);
        assert_eq!(unknown, Err(Unknown("rest".to_owned())));
    }
}
