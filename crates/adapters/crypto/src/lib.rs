//! Passwords and tokens: Argon2id behind `ports::PasswordHasher`, HS256 access tokens and rotating refresh tokens
//! behind `ports::TokenIssuer`.

mod password;
mod token;

pub use password::Argon2Hasher;
pub use token::JwtIssuer;
