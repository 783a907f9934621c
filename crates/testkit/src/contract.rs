//! What every adapter of a port must do. Each case is an async function over a fresh [`Stage`](crate::Stage) (or a
//! bus); the macros turn each into a test. A case's name is a promise, and its comment continues where the name ends:
//! `only_the_author_edits`, "not even an admin".

pub mod accounts;
pub mod board;
pub mod bus;
pub mod changes;
pub mod conversations;
pub mod jobs;
pub mod messages;
pub mod outbox;
pub mod reactions;
pub mod reading;
pub mod replay;
pub mod workspaces;

use std::fmt::Debug;

use parlance_application::{
    Error, Result,
    ports::store::{Page, PageQuery},
};

#[track_caller]
fn refused<T: Debug>(outcome: Result<T>) -> Error {
    match outcome {
        Ok(done) => panic!("should have been refused, but: {done:?}"),
        Err(error) => error,
    }
}

#[track_caller]
fn not_found<T: Debug>(outcome: Result<T>) {
    let error = refused(outcome);
    assert!(matches!(error, Error::NotFound(_)), "not `NotFound`: {error:?}");
}

#[track_caller]
fn forbidden<T: Debug>(outcome: Result<T>) {
    let error = refused(outcome);
    assert!(matches!(error, Error::Forbidden(_)), "not `Forbidden`: {error:?}");
}

#[track_caller]
fn conflict<T: Debug>(outcome: Result<T>) {
    let error = refused(outcome);
    assert!(matches!(error, Error::Conflict { .. }), "not `Conflict`: {error:?}");
}

/// The first page, larger than any list here.
fn all() -> PageQuery {
    PageQuery { after: None, limit: 200 }
}

/// Reads a list to its end, two items a page.
async fn by_twos<T, F: Future<Output = Result<Page<T>>>>(read: impl Fn(PageQuery) -> F) -> Vec<T> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = read(PageQuery { after, limit: 2 }).await.expect("a page");
        assert!(page.items.len() <= 2, "a page is longer than its limit");
        assert!(
            page.next.is_none() || page.items.len() == 2,
            "a page that is not the last is short"
        );
        items.extend(page.items);
        after = page.next;
        if after.is_none() {
            return items;
        }
    }
}

/// Turns each case of the store's contract into a test. The expression makes a fresh `Store`, and something to hold
/// until the test's end (such as a directory): `(store, guard)`.
#[macro_export]
macro_rules! store_contract {
    ($make:expr) => {
        $crate::__contract_cases! { $make;
            accounts {
                taken_address_conflicts
                credentials_are_found_by_address_and_by_id
                people_are_found_by_their_address
                sessions_are_listed_newest_first_until_revoked
                sessions_are_listed_in_pages
                sessions_expire
                nobody_ends_the_sessions_of_others
                refresh_replaces_the_token
                the_preceding_token_works_within_its_grace
                every_successor_given_within_the_grace_works
                a_reused_token_ends_its_session
                a_token_two_back_is_reuse_at_once
                an_expired_session_cannot_be_refreshed
                an_ended_session_changes_nothing
                a_new_password_ends_the_other_sessions
                what_was_verified_before_a_new_password_is_worth_nothing
                a_new_name_is_seen
                people_are_seen_by_those_who_share_something
                who_left_is_seen_by_readers_of_their_messages
            }
            workspaces {
                creation_makes_an_admin_and_general
                a_code_lets_in_once
                other_codes_open_nothing
                only_admins_see_the_code
                lists_go_by_pages_oldest_membership_first
                outsiders_find_nothing
                members_do_not_administer
                a_rename_is_seen_by_all
                an_admin_adds_people
                a_refused_addition_leaves_no_job
                roles_change_but_one_admin_stays
                the_last_admin_stays
                removal_hides_everything
                who_comes_back_begins_anew
                anybody_may_leave
                deletion_hides_everything
            }
            conversations {
                channel_names_are_unique_in_their_workspace
                a_new_channel_has_its_creator_in_it
                private_channels_are_hidden
                joining_and_leaving
                general_stays
                members_are_added_by_permission
                members_are_removed_by_permission
                lists_go_by_pages
                a_deleted_channel_is_gone
                a_pair_has_one_dm
                both_sides_of_a_dm_must_be_in_the_workspace
                a_dm_alone_can_be_read_only
                permission_is_that_of_the_matrix
            }
            messages {
                seq_and_rev_are_dense
                a_send_is_found_again
                a_repeat_in_a_batch_is_a_duplicate
                a_repeat_later_is_a_duplicate
                another_text_under_the_same_id_conflicts
                client_ids_are_per_author_and_conversation
                a_refused_write_leaves_its_neighbours
                refused_sends_take_no_place
                appends_to_many_conversations_at_once
                access_comes_before_the_look_for_a_duplicate
                an_ended_session_comes_before_everything
                only_the_author_edits
                the_same_text_changes_nothing
                author_and_admin_delete
                who_has_left_a_channel_deletes_as_an_admin_only
                a_second_deletion_changes_nothing
                a_tombstone_is_not_changed
                messages_of_other_conversations_are_not_found
                a_channel_is_renamed_in_order
                only_admins_rename
                concurrent_appends_are_dense
            }
            reactions {
                reactions_come_and_go
                reactions_are_in_order_of_first_use
                twenty_reactions_at_most
                a_reaction_names_fifty
                a_mark_among_many_is_taken_back
            }
            replay {
                history_goes_both_ways
                history_shows_tombstones
                history_ends_with_access
                history_is_of_one_moment
                replay_is_current_state_in_order
                replay_goes_by_pages
                replay_keeps_to_its_budget
                weights_are_those_of_replays
                replay_beyond_the_head_resets
                replay_is_for_readers
            }
            reading {
                a_snapshot_tells_everything
                a_read_mark_only_advances
                unread_counts_others_messages
                a_send_moves_its_authors_mark
                unread_counts_up_to_a_hundred
                a_snapshot_counts_what_is_unread
                concurrent_marks_end_at_the_furthest
                marks_among_sends_count_exactly
                own_sends_and_entry_are_not_unread
                every_change_of_access_counts
            }
            outbox {
                a_job_is_taken_once_and_again_later
                oldest_first_up_to_the_limit
                a_finished_job_never_comes_back
                a_buried_job_is_not_handed_on
                a_revived_job_is_handed_on_again
                the_buried_are_handed_on_to_who_asks_for_them
            }
        }
    };
}

/// Turns each case of the job queue's contract into a test. The expression makes a fresh
/// [`Jobs`](crate::contract::jobs::Jobs) and something to hold until the test's end: `(jobs, guard)`.
#[macro_export]
macro_rules! job_contract {
    ($make:expr) => {
        mod jobs {
            use super::*;
            $crate::__job_cases! { $make;
                adding_twice_is_adding_once
                only_due_jobs_are_claimed
                oldest_first_and_no_more_than_asked
                a_lost_lease_is_taken_over
                a_lost_claim_settles_nothing
                a_retry_waits_for_its_time
                the_dead_are_kept_and_not_run
                a_done_job_is_not_added_again
                a_memory_that_lasts_is_known_by_one_name
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __job_cases {
    ($make:expr; $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $case() {
            let (jobs, _guard) = $make;
            $crate::contract::jobs::$case(&jobs).await;
        }
    )*};
}

/// Turns each case of the bus's contract into a test. The expression makes a fresh bus.
#[macro_export]
macro_rules! bus_contract {
    ($make:expr) => {
        mod bus {
            use super::*;

            #[tokio::test]
            async fn others_hear_and_oneself_does_not() {
                $crate::contract::bus::others_hear_and_oneself_does_not(&$make).await;
            }

            #[tokio::test]
            async fn one_nodes_events_come_in_order() {
                $crate::contract::bus::one_nodes_events_come_in_order(&$make).await;
            }

            #[tokio::test]
            async fn a_wait_that_is_given_up_loses_nothing() {
                $crate::contract::bus::a_wait_that_is_given_up_loses_nothing(&$make).await;
            }

            #[tokio::test]
            async fn a_topic_is_heard_by_who_listens() {
                $crate::contract::bus::a_topic_is_heard_by_who_listens(&$make).await;
            }

            #[tokio::test]
            async fn an_ignored_topic_stops_nothing_else() {
                $crate::contract::bus::an_ignored_topic_stops_nothing_else(&$make).await;
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __contract_cases {
    ($make:expr; $($suite:ident { $($case:ident)* })*) => {$(
        mod $suite {
            use super::*;
            $(
                #[tokio::test]
                async fn $case() {
                    let (store, _guard) = $make;
                    $crate::contract::$suite::$case(&$crate::Stage::new(store)).await;
                }
            )*
        }
    )*};
}
