use std::time::Duration;

use parlance_application::{
    jobs::Job,
    ports::{
        PasswordHash,
        store::{Accounts, RotateRefresh, Rotation},
    },
};
use parlance_domain::{Account, DisplayName, Email, SessionId, Timestamp, UserId};
use uuid::Uuid;

use crate::world::*;

const ADAS: SessionId = SessionId(Uuid::from_u128(1));

fn rotation(from: u8, to: u8, ms: i64) -> RotateRefresh {
    RotateRefresh {
        presented: digest(from),
        successor: digest(to),
        at: Timestamp::from_millis(ms),
        expires_at: Timestamp::from_millis(9_000_000 + ms),
        grace: Duration::from_mins(1),
    }
}

#[tokio::test]
async fn refresh_tokens_rotate_with_grace_and_reuse_ends_the_session() {
    let world = world().await;
    let rotate = async |from, to, ms| {
        world.store.rotate_refresh(rotation(from, to, ms)).await.expect("answers")
    };
    assert_eq!(rotate(99, 98, 2_000_000).await, Rotation::Unknown);
    let Rotation::Rotated { account, session_id } = rotate(1, 51, 2_000_000).await else {
        panic!("not rotated")
    };
    assert_eq!((account.id, session_id), (ADA, ADAS));
    // The preceding one, within its grace: the same successor, which still works.
    assert!(matches!(rotate(1, 51, 2_060_000).await, Rotation::Rotated { .. }));
    assert!(matches!(rotate(51, 52, 2_060_000).await, Rotation::Rotated { .. }));
    assert!(
        world
            .store
            .session_owner(ADAS, Timestamp::from_millis(2_060_000))
            .await
            .expect("reads")
            .is_some()
    );
    // Two back.
    assert_eq!(
        rotate(1, 51, 2_060_001).await,
        Rotation::Reused { session_id: ADAS, session_rev: 1 }
    );
    assert_eq!(rotate(52, 53, 2_060_002).await, Rotation::Unknown);
    assert_eq!(
        world.store.session_owner(ADAS, Timestamp::from_millis(2_060_000)).await.expect("reads"),
        None
    );

    // The preceding one, too late; and a session that has expired.
    assert!(matches!(rotate(2, 61, 2_000_000).await, Rotation::Rotated { .. }));
    assert!(matches!(rotate(2, 61, 2_060_001).await, Rotation::Reused { .. }));
    world.store.open_session(session(71, BOB)).await.expect("opens");
    assert_eq!(rotate(71, 72, 9_000_000).await, Rotation::Unknown);
}

#[tokio::test]
async fn an_address_is_taken_once() {
    let world = world().await;
    let eve = UserId(Uuid::from_u128(3));
    let account = Account {
        id: eve,
        email: "p1@x.org".to_owned(),
        display_name: "Eve".to_owned(),
        created_at: NOW,
    };
    let job: Job = job(77, eve);
    assert!(conflict(
        world
            .store
            .create_account(account, PasswordHash(String::new()), session(3, eve), job)
            .await
    ));
    let found =
        world.store.credentials(&Email::parse("P1@x.org").expect("valid")).await.expect("reads");
    assert_eq!(found.map(|c| c.account.id), Some(ADA));
    assert!(not_found(world.store.credentials_of(eve).await));
    let renamed = world
        .store
        .rename(ADA, &DisplayName::parse("Ada L").expect("valid"))
        .await
        .expect("renames");
    assert_eq!(renamed.account.display_name, "Ada L");
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let world = world().await;
    world.store.open_session(session(81, ADA)).await.expect("opens");
    world.store.open_session(session(82, ADA)).await.expect("opens");
    let (keep, other) = (SessionId(Uuid::from_u128(82)), SessionId(Uuid::from_u128(81)));
    let mut ended = world
        .store
        .change_password(ADA, PasswordHash("new".to_owned()), keep, NOW)
        .await
        .expect("changes");
    ended.sessions.sort();
    assert_eq!(ended.sessions, [ADAS, other]);
    let left = world.store.sessions(ADA, NOW).await.expect("reads");
    assert_eq!(left.iter().map(|s| s.id).collect::<Vec<_>>(), [keep]);
    assert!(not_found(world.store.revoke_session(ADA, other, NOW).await));
    assert!(not_found(world.store.revoke_session(BOB, keep, NOW).await));
    world.store.revoke_session(ADA, keep, NOW).await.expect("revokes");
    assert_eq!(world.store.credentials_of(ADA).await.expect("reads").password.0, "new");
}
