use super::*;
use protocol::{
    admin::{AgentState, InvitationState},
    federation::BadInvitation,
};

fn key(number: u8) -> KeyFingerprint {
    KeyFingerprint::from_bytes([number; 32])
}

fn peer(number: u8) -> Peer {
    Peer {
        key: key(number),
        vouched: Vec::new(),
    }
}

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn invitation(number: u8) -> Invitation {
    Invitation::from_bytes([number; 16])
}

fn for_anybody(uses: u32) -> NewInvitation {
    NewInvitation {
        uses,
        expires_at: Timestamp::from_micros(u64::MAX >> 1),
        host: None,
    }
}

struct Kept {
    register: Register,
    _dir: tempfile::TempDir,
}

fn register() -> Kept {
    let dir = tempfile::tempdir().unwrap();
    Kept {
        register: Register::open(dir.path()).unwrap(),
        _dir: dir,
    }
}

async fn refused<T: std::fmt::Debug>(
    enrolling: impl Future<Output = Result<T, Refusal>>,
) -> Option<BadInvitation> {
    match enrolling.await {
        Err(Refusal::BadInvitation { reason }) => Some(reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_invitation_lets_in_as_many_hosts_as_it_is_for_and_retries_cost_nothing() {
    let Kept { register, _dir } = register();
    assert_eq!(
        register.admit(&peer(1), &host("ada")).await,
        Err(Refusal::NotEnrolled)
    );
    register
        .invite(&invitation(1), for_anybody(2))
        .await
        .unwrap();
    for _ in 0..3 {
        let enrolled = register.enrol(key(1), host("ada"), invitation(1)).await;
        assert_eq!(enrolled, Ok(None));
    }
    assert_eq!(
        register.admit(&peer(1), &host("ada")).await,
        Ok(Admitted::AsBefore)
    );
    register
        .enrol(key(2), host("bee"), invitation(1))
        .await
        .unwrap();
    let third = register.enrol(key(3), host("cat"), invitation(1));
    assert_eq!(refused(third).await, Some(BadInvitation::Used));
    assert_eq!(
        register.admit(&peer(3), &host("cat")).await,
        Err(Refusal::NotEnrolled)
    );
    let (listed, more) = register.invitations(None).await.unwrap();
    assert_eq!(listed[0].state, InvitationState::Used);
    assert!(!more);
}

#[tokio::test]
async fn an_invitation_that_is_unknown_over_revoked_or_for_another_lets_nobody_in() {
    let Kept { register, _dir } = register();
    let unknown = register.enrol(key(1), host("ada"), invitation(1));
    assert_eq!(refused(unknown).await, Some(BadInvitation::Unknown));

    let over = NewInvitation {
        expires_at: Timestamp::from_micros(1),
        ..for_anybody(1)
    };
    register.invite(&invitation(2), over).await.unwrap();
    let late = register.enrol(key(1), host("ada"), invitation(2));
    assert_eq!(refused(late).await, Some(BadInvitation::Expired));

    let number = register
        .invite(&invitation(3), for_anybody(1))
        .await
        .unwrap();
    register.revoke_invitation(number).await.unwrap();
    let revoked = register.enrol(key(1), host("ada"), invitation(3));
    assert_eq!(refused(revoked).await, Some(BadInvitation::Revoked));
    assert!(matches!(
        register.revoke_invitation(99).await,
        Err(RegisterError::Missing)
    ));

    let for_bee = NewInvitation {
        host: Some(host("bee")),
        ..for_anybody(1)
    };
    register.invite(&invitation(4), for_bee).await.unwrap();
    let other = register.enrol(key(1), host("ada"), invitation(4));
    assert_eq!(refused(other).await, Some(BadInvitation::OtherHost));
    register
        .enrol(key(1), host("bee"), invitation(4))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_host_s_name_belongs_to_one_key_and_a_key_to_one_name() {
    let Kept { register, _dir } = register();
    register
        .invite(&invitation(1), for_anybody(9))
        .await
        .unwrap();
    register
        .enrol(key(1), host("ada"), invitation(1))
        .await
        .unwrap();
    assert_eq!(
        register.enrol(key(2), host("ada"), invitation(1)).await,
        Err(Refusal::HostEnrolled { host: host("ada") })
    );
    assert_eq!(
        register.admit(&peer(1), &host("bee")).await,
        Err(Refusal::OtherHost {
            enrolled: host("ada"),
            given: host("bee")
        })
    );
    // With an invitation it may take another name, and the old one is free.
    assert_eq!(
        register.enrol(key(1), host("bee"), invitation(1)).await,
        Ok(Some(host("ada")))
    );
    assert_eq!(
        register.admit(&peer(1), &host("bee")).await,
        Ok(Admitted::AsBefore)
    );
    register
        .enrol(key(2), host("ada"), invitation(1))
        .await
        .unwrap();
    assert_eq!(register.enrolled().await.unwrap(), 2);
}

#[tokio::test]
async fn a_host_s_name_is_not_taken_for_another_s() {
    let Kept { register, _dir } = register();
    register
        .invite(&invitation(1), for_anybody(9))
        .await
        .unwrap();
    register
        .enrol(key(1), host("mike"), invitation(1))
        .await
        .unwrap();
    let refused = register.enrol(key(2), host("rnike"), invitation(1)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("looks like mike"), "{refused}");
    let (invitations, _) = register.invitations(None).await.unwrap();
    assert_eq!(invitations[0].uses_left, 8);
}

#[tokio::test]
async fn a_revoked_host_is_let_in_no_more_until_it_is_invited_again() {
    let Kept { register, _dir } = register();
    register
        .invite(&invitation(1), for_anybody(9))
        .await
        .unwrap();
    register
        .enrol(key(1), host("ada"), invitation(1))
        .await
        .unwrap();
    register.revoke_agent(host("ada")).await.unwrap();
    assert_eq!(
        register.admit(&peer(1), &host("ada")).await,
        Err(Refusal::Revoked)
    );
    let vouched = Peer {
        key: key(2),
        vouched: vec![host("ada")],
    };
    assert_eq!(
        register.admit(&vouched, &host("ada")).await,
        Err(Refusal::Revoked)
    );
    let (agents, _) = register.agents(None).await.unwrap();
    assert_eq!(agents[0].state, AgentState::Revoked);
    assert!(matches!(
        register.revoke_agent(host("ada")).await,
        Err(RegisterError::Missing)
    ));
    // Nor does what it came with let it in again.
    for number in [1, 3] {
        let back = register.enrol(key(number), host("ada"), invitation(1));
        assert_eq!(refused(back).await, Some(BadInvitation::Revoked));
    }
    register
        .invite(&invitation(2), for_anybody(1))
        .await
        .unwrap();
    register
        .enrol(key(3), host("ada"), invitation(2))
        .await
        .unwrap();
    assert_eq!(
        register.admit(&peer(3), &host("ada")).await,
        Ok(Admitted::AsBefore)
    );
    let (agents, _) = register.agents(None).await.unwrap();
    assert_eq!((agents.len(), &agents[0].state), (1, &AgentState::Away));
    assert_eq!(agents[0].key, key(3));
}

#[tokio::test]
async fn whom_an_authority_vouches_for_needs_no_invitation() {
    let Kept { register, _dir } = register();
    let vouched = Peer {
        key: key(1),
        vouched: vec![host("ada")],
    };
    assert_eq!(
        register.admit(&vouched, &host("bee")).await,
        Err(Refusal::NotEnrolled)
    );
    assert_eq!(
        register.admit(&vouched, &host("ada")).await,
        Ok(Admitted::AsBefore)
    );
    // Its next certificate may be for another key.
    let renewed = Peer {
        key: key(2),
        ..vouched
    };
    assert_eq!(
        register.admit(&renewed, &host("ada")).await,
        Ok(Admitted::AsBefore)
    );
    assert_eq!(
        register.admit(&peer(1), &host("ada")).await,
        Err(Refusal::NotEnrolled)
    );
}

#[tokio::test]
async fn a_key_that_was_announced_takes_the_place_of_the_old_one_when_it_is_used() {
    let Kept { register, _dir } = register();
    register
        .invite(&invitation(1), for_anybody(9))
        .await
        .unwrap();
    register
        .enrol(key(1), host("ada"), invitation(1))
        .await
        .unwrap();
    register
        .enrol(key(9), host("bee"), invitation(1))
        .await
        .unwrap();
    let announced = register.note_next_key(host("ada"), key(1), key(2));
    announced.await.unwrap();
    // Both count until the new one is used.
    assert_eq!(
        register.admit(&peer(1), &host("ada")).await,
        Ok(Admitted::AsBefore)
    );
    assert_eq!(
        register.admit(&peer(2), &host("ada")).await,
        Ok(Admitted::WithNextKey)
    );
    assert_eq!(
        register.admit(&peer(1), &host("ada")).await,
        Err(Refusal::NotEnrolled)
    );
    // Nobody announces what is another's.
    let anothers = register.note_next_key(host("ada"), key(2), key(9));
    assert!(anothers.await.is_err());
    // The old one may have been stolen; it announces nothing any more.
    let stolen = register.note_next_key(host("ada"), key(1), key(3));
    assert_eq!(stolen.await, Err(Refusal::NotEnrolled));
    assert_eq!(
        register.admit(&peer(2), &host("ada")).await,
        Ok(Admitted::AsBefore)
    );
}

#[tokio::test]
async fn what_was_decided_outlives_the_server() {
    let dir = tempfile::tempdir().unwrap();
    {
        let register = Register::open(dir.path()).unwrap();
        register
            .invite(&invitation(1), for_anybody(2))
            .await
            .unwrap();
        register
            .enrol(key(1), host("ada"), invitation(1))
            .await
            .unwrap();
        register.close().await;
    }
    let register = Register::open(dir.path()).unwrap();
    assert_eq!(
        register.admit(&peer(1), &host("ada")).await,
        Ok(Admitted::AsBefore)
    );
    let (invitations, _) = register.invitations(None).await.unwrap();
    assert_eq!(invitations[0].uses_left, 1);
    assert!(register.invitations(Some(1)).await.unwrap().0.is_empty());
}
