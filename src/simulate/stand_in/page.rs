//! The query of `GET /history`, as the validation in front of the server reads it.

use serde_json::{Value, json};

use super::reply::Mistake;

/// Which rows of the history are asked for.
#[derive(Debug)]
pub struct Page {
    pub limit: usize,
    pub offset: usize,
    pub call_type: Option<&'static str>,
}

impl Page {
    /// Reads the query; the error is what a 422 lists.
    pub fn parse(query: &[(String, String)]) -> Result<Self, Vec<Mistake>> {
        let last = |name: &str| {
            query
                .iter()
                .rev()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let mut mistakes = Vec::new();
        let mut whole = |name: &str, default: i64| match last(name)
            .map(|text| (text, text.trim().parse::<i64>()))
        {
            None => default,
            Some((_, Ok(number))) => number,
            Some((text, Err(_))) => {
                let msg = "Input should be a valid integer, unable to parse string as an integer";
                mistakes.push(Mistake::new(
                    "int_parsing",
                    &["query", name],
                    msg,
                    Value::from(text),
                ));
                default
            }
        };
        let (limit, offset) = (whole("limit", 50), whole("offset", 0));
        if limit > 100 {
            let msg = "Input should be less than or equal to 100";
            let mistake = Mistake::new(
                "less_than_equal",
                &["query", "limit"],
                msg,
                Value::from(limit.to_string()),
            );
            mistakes.push(mistake.context(json!({ "le": 100 })));
        }
        if offset < 0 {
            let msg = "Input should be greater than or equal to 0";
            let mistake = Mistake::new(
                "greater_than_equal",
                &["query", "offset"],
                msg,
                Value::from(offset.to_string()),
            );
            mistakes.push(mistake.context(json!({ "ge": 0 })));
        }
        let call_type = match last("call_type") {
            None => None,
            Some("inbound") => Some("inbound"),
            Some("outbound") => Some("outbound"),
            Some(other) => {
                let pattern = "^(inbound|outbound)$";
                let msg = format!("String should match pattern '{pattern}'");
                let loc = &["query", "call_type"];
                let mistake =
                    Mistake::new("string_pattern_mismatch", loc, &msg, Value::from(other));
                mistakes.push(mistake.context(json!({ "pattern": pattern })));
                None
            }
        };
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        // A negative limit reaches the database, where it means all.
        Ok(Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            offset: usize::try_from(offset).unwrap_or(0),
            call_type,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<Page, Vec<Mistake>> {
        let query: Vec<_> = query
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Page::parse(&query)
    }

    #[test]
    fn a_negative_limit_means_all_and_no_limit_means_fifty() {
        assert_eq!(parse(&[("limit", "-1")]).unwrap().limit, usize::MAX);
        let page = parse(&[("other", "x")]).unwrap();
        assert_eq!((page.limit, page.offset, page.call_type), (50, 0, None));
    }

    #[test]
    fn values_out_of_range_are_listed_together() {
        let mistakes =
            parse(&[("limit", "101"), ("offset", "-1"), ("call_type", "both")]).unwrap_err();
        assert_eq!(mistakes.len(), 3);
        assert_eq!(parse(&[("limit", "many")]).unwrap_err().len(), 1);
        assert_eq!(
            parse(&[("call_type", "inbound")]).unwrap().call_type,
            Some("inbound")
        );
    }
}
