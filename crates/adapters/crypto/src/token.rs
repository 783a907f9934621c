//! JWTs and refresh tokens behind `ports::TokenIssuer`. Nothing is stored here: all nodes share one secret, so each
//! verifies what any other has issued.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parlance_application::{
    ACCESS_FOR, Error, Result, Unauthenticated,
    ports::{AccessToken, Claims, RefreshDigest, RefreshToken, TokenIssuer},
};
use parlance_domain::{SessionId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Issuer and audience of all tokens.
const NAME: &str = "parlance";

/// Access tokens as HS256 JWTs; refresh tokens as a chain in which each token yields the next.
pub struct JwtIssuer {
    sign: EncodingKey,
    check: DecodingKey,
    validation: Validation,
    /// Derived from the secret, so that a refresh token says nothing about signatures and vice versa.
    chain: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct Payload {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    exp: i64,
}

impl JwtIssuer {
    /// Signs with `secret`, which all nodes share. The configuration checks its length.
    pub fn new(secret: &[u8]) -> Self {
        // The algorithm is pinned here; a token whose header says otherwise is refused.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[NAME]);
        validation.set_audience(&[NAME]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The caller's clock decides, not the library's.
        validation.validate_exp = false;
        Self {
            sign: EncodingKey::from_secret(secret),
            check: DecodingKey::from_secret(secret),
            validation,
            chain: hmac(secret, b"parlance refresh chain v1"),
        }
    }
}

impl TokenIssuer for JwtIssuer {
    fn issue(&self, claims: Claims) -> Result<AccessToken> {
        let exp = claims.expires_at.as_secs();
        let payload = Payload {
            iss: NAME.to_owned(),
            aud: NAME.to_owned(),
            sub: claims.user_id,
            sid: claims.session_id,
            // For people who read tokens: nothing checks it.
            iat: exp - i64::try_from(ACCESS_FOR.as_secs()).unwrap_or(0),
            exp,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &payload, &self.sign)
            .map(AccessToken)
            .map_err(Error::internal)
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, Unauthenticated> {
        let payload = jsonwebtoken::decode::<Payload>(token, &self.check, &self.validation)
            .map_err(|_| Unauthenticated::BadToken)?
            .claims;
        if payload.exp <= now.as_secs() {
            return Err(Unauthenticated::Expired);
        }
        let expires_at = payload.exp.checked_mul(1000).ok_or(Unauthenticated::BadToken)?;
        Ok(Claims {
            user_id: payload.sub,
            session_id: payload.sid,
            expires_at: Timestamp::from_millis(expires_at),
        })
    }

    fn successor(&self, token: &RefreshToken) -> RefreshToken {
        RefreshToken(hmac(&self.chain, &token.0))
    }

    fn digest(&self, token: &RefreshToken) -> RefreshDigest {
        RefreshDigest(Sha256::digest(token.0).into())
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC's own first step (RFC 2104). It is done here because `new`, which takes exactly one block, cannot fail.
    let mut block = [0; 64];
    if let Some(head) = block.get_mut(..key.len()) {
        head.copy_from_slice(key);
    } else {
        let (head, _) = block.split_at_mut(32);
        head.copy_from_slice(&Sha256::digest(key));
    }
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &[u8] = b"a secret of at least sixteen bytes";
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn claims() -> Claims {
        Claims {
            user_id: "0190f3a0-7c3e-7b5a-9d2f-0123456789ab".parse().unwrap(),
            session_id: "0190f3a0-7c3e-7b5a-9d2f-ba9876543210".parse().unwrap(),
            expires_at: NOW + std::time::Duration::from_mins(15),
        }
    }

    fn payload() -> Value {
        let token = JwtIssuer::new(SECRET).issue(claims()).unwrap().0;
        let part = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    /// A token with any header and payload, and a valid HS256 signature.
    fn forge(header: &Value, payload: &Value) -> String {
        let [header, payload] =
            [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{payload}");
        let signature = URL_SAFE_NO_PAD.encode(hmac(SECRET, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn verify(token: &str) -> Result<Claims, Unauthenticated> {
        JwtIssuer::new(SECRET).verify(token, NOW)
    }

    #[test]
    fn says_what_it_was_told() {
        let token = JwtIssuer::new(SECRET).issue(claims()).unwrap();
        assert_eq!(verify(&token.0), Ok(claims()));
        assert_eq!(
            payload(),
            json!({
                "iss": "parlance", "aud": "parlance",
                "sub": "0190f3a0-7c3e-7b5a-9d2f-0123456789ab",
                "sid": "0190f3a0-7c3e-7b5a-9d2f-ba9876543210",
                "iat": 1_800_000_000, "exp": 1_800_000_900,
            })
        );
    }

    #[test]
    fn its_own_forgeries_pass_so_the_refusals_below_mean_something() {
        assert_eq!(verify(&forge(&json!({"alg": "HS256"}), &payload())), Ok(claims()));
    }

    #[test]
    fn only_hs256_passes() {
        for alg in ["none", "None", "HS384", "HS512", "RS256", "ES256", "EdDSA", ""] {
            let token = forge(&json!({"alg": alg, "typ": "JWT"}), &payload());
            assert_eq!(verify(&token), Err(Unauthenticated::BadToken), "{alg}");
            let unsigned = token.rsplit_once('.').map(|(signed, _)| format!("{signed}.")).unwrap();
            assert_eq!(verify(&unsigned), Err(Unauthenticated::BadToken), "{alg}, unsigned");
        }
    }

    #[test]
    fn another_secret_or_a_changed_token_is_refused() {
        let token = JwtIssuer::new(SECRET).issue(claims()).unwrap().0;
        let other = JwtIssuer::new(b"another secret of sixteen bytes or so");
        assert_eq!(other.verify(&token, NOW), Err(Unauthenticated::BadToken));
        for bad in
            ["", "a.b.c", &token.replacen('.', "x.", 1), token.trim_end_matches(|c| c != '.')]
        {
            assert_eq!(verify(bad), Err(Unauthenticated::BadToken), "{bad}");
        }
    }

    #[test]
    fn wrong_or_missing_claims_are_refused() {
        for (claim, value) in [
            ("iss", json!("elsewhere")),
            ("aud", json!("elsewhere")),
            ("iss", Value::Null),
            ("aud", Value::Null),
            ("sub", json!("me")),
            ("sid", Value::Null),
            ("exp", json!("soon")),
            ("exp", Value::Null),
            ("exp", json!(i64::MAX)),
        ] {
            let mut payload = payload();
            if value.is_null() {
                payload.as_object_mut().unwrap().remove(claim);
            } else {
                payload[claim] = value.clone();
            }
            let token = forge(&json!({"alg": "HS256"}), &payload);
            assert_eq!(verify(&token), Err(Unauthenticated::BadToken), "{claim}: {value}");
        }
    }

    #[test]
    fn ends_at_the_second_it_names() {
        let issuer = JwtIssuer::new(SECRET);
        let token = issuer.issue(claims()).unwrap().0;
        let end = claims().expires_at.as_millis();
        assert!(issuer.verify(&token, Timestamp::from_millis(end - 1)).is_ok());
        assert_eq!(
            issuer.verify(&token, Timestamp::from_millis(end)),
            Err(Unauthenticated::Expired)
        );
    }

    #[test]
    fn the_chain_is_the_same_for_everyone_with_the_secret_and_for_no_one_else() {
        let first = RefreshToken([1; 32]);
        let (a, b) = (JwtIssuer::new(SECRET), JwtIssuer::new(SECRET));
        let second = a.successor(&first);
        assert!(second == b.successor(&first) && second != first);
        assert!(a.successor(&second) != second);
        assert!(JwtIssuer::new(b"another secret of sixteen bytes").successor(&first) != second);
        assert!(a.digest(&first) == b.digest(&first) && a.digest(&first) != a.digest(&second));
    }

    #[test]
    fn hmac_agrees_with_rfc_4231() {
        let hex = |bytes: [u8; 32]| bytes.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hex(hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
