//! The token, and who it stands for.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use std::fmt;
use tepui_proto::Tenant;

/// The one tenant that there is for now; the token belongs to it.
const TENANT: &str = "default";

/// Whom a request is from.
pub(crate) fn tenant() -> Tenant {
    Tenant::from(TENANT)
}

/// The bearer token. Kept and compared as its SHA-256, so that how long a comparison takes tells nothing about it.
#[derive(Clone, Copy)]
pub(crate) struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// From the text of its file; none if there is nothing in it.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(Sha256::digest(text).into()))
    }

    /// Whether these headers carry it.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(header) = headers.get(AUTHORIZATION) else { return false };
        let Some((scheme, token)) = header.to_str().ok().and_then(|text| text.split_once(' '))
        else {
            return false;
        };
        let given: [u8; 32] = Sha256::digest(token.trim()).into();
        scheme.eq_ignore_ascii_case("bearer") && given == self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_token_is_admitted() {
        let token = Token::new("secret\n").unwrap();
        assert!(token.admits(&headers("Bearer secret")) && token.admits(&headers("bearer secret")));
        for bad in
            ["", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Basic secret", "secret"]
        {
            assert!(!token.admits(&headers(bad)), "{bad:?}");
        }
        assert!(!token.admits(&HeaderMap::new()));
    }

    #[test]
    fn an_empty_file_is_no_token() {
        assert!(Token::new(" \n").is_none());
        assert!(!format!("{:?}", Token::new("secret")).contains("115"));
    }
}
