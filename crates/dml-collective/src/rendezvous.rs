use std::io::{Error, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::{CollectiveError, Launch, Lost, Result};

/// What a rank says when it is done. An end of the connection without it is that of a rank that is gone.
const DONE: u32 = u32::MAX;
/// What it says until then.
const ALIVE: u32 = u32::MAX - 1;
/// Rank 0 tells the number of a rank that is gone as it is, and that of one which says nothing with this.
const SILENT: u32 = 1 << 31;
/// Between two attempts to reach rank 0, and to see who has come.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two signs of life, or a quarter of the limit where that is less.
const BEAT: Duration = Duration::from_secs(10);

/// Where ranks meet before a transport connects them that cannot do without, as NCCL: a connection of each to rank 0, by which
/// all learn of one that is gone or hangs.
///
/// Rank 0 waits at MASTER_ADDR, at the port after MASTER_PORT; under Slurm without these at the first host of the step.
pub struct Rendezvous {
    /// On rank 0 those to all others, elsewhere that to rank 0.
    peers: Vec<TcpStream>,
    /// Dropped with it, which ends the signs of life.
    _beating: Sender<()>,
}

/// What comes from a connection.
enum Heard {
    Word(u32),
    Nothing,
    End,
}

impl Rendezvous {
    /// Gives rank 0's bytes to all ranks, which bring as many, and from then on tells `lost` of a rank that ends without a word,
    /// or of which nothing has been heard for `limit`.
    ///
    /// # Errors
    /// If not all ranks have come within `limit`, rank 0 cannot wait at the place, or the launcher has not named one.
    pub fn meet(
        launch: &Launch,
        bytes: &mut [u8],
        limit: Duration,
        lost: impl Fn(&CollectiveError) + Send + Sync + 'static,
    ) -> Result<Self> {
        let (place, lost) = (launch.meeting()?, Arc::new(lost) as Lost);
        let fail = |problem: String| {
            CollectiveError::Launch(format!("rank {} at {}:{}: {problem}", launch.rank, place.0, place.1))
        };
        let peers = match launch.rank {
            0 => wait_for(launch.size, place, bytes, limit).map_err(fail)?,
            rank => vec![go_to(place, (rank, launch.size), bytes, limit).map_err(fail)?],
        };
        let failed = |error: Error| fail(error.to_string());
        let copies = || peers.iter().map(TcpStream::try_clone).collect::<std::io::Result<Vec<_>>>();
        for (place, peer) in peers.iter().enumerate() {
            peer.set_read_timeout((limit != Duration::MAX).then_some(limit)).map_err(failed)?;
            let (copies, lost) = (copies().map_err(failed)?, lost.clone());
            match launch.rank {
                0 => std::thread::spawn(move || watch(copies, place, limit, &lost)),
                _ => std::thread::spawn(move || watch_rank_0(copies, limit, &lost)),
            };
        }
        let (_beating, over) = channel();
        let copies = copies().map_err(failed)?;
        std::thread::spawn(move || beat(copies, (limit / 4).min(BEAT), &over));
        Ok(Self { peers, _beating })
    }
}

impl std::fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rendezvous({} connections)", self.peers.len())
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        for peer in &mut self.peers {
            if !std::thread::panicking() {
                // If it cannot be said, the other has gone.
                let _ = say(peer, DONE);
            }
            let _ = peer.shutdown(Shutdown::Write);
        }
    }
}

/// Rank 0's part: the connections of the others, by rank.
fn wait_for(
    size: usize,
    place: (&str, u16),
    bytes: &[u8],
    limit: Duration,
) -> std::result::Result<Vec<TcpStream>, String> {
    let (began, failed) = (Instant::now(), |error: Error| error.to_string());
    let listener = listen(place).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let mut come: Vec<Option<TcpStream>> = (1..size).map(|_| None).collect();
    while come.iter().any(Option::is_none) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false).map_err(failed)?;
                stream.set_read_timeout(Some(limit.min(BEAT))).map_err(failed)?;
                let place = match (hear(&mut stream), hear(&mut stream)) {
                    (Heard::Word(rank), Heard::Word(of)) if of as usize == size => {
                        (rank as usize).checked_sub(1)
                    }
                    _ => None,
                };
                // Others than ours, and who comes twice, find the connection ended.
                if let Some(free @ None) = place.and_then(|place| come.get_mut(place)) {
                    *free = Some(stream);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && began.elapsed() < limit => {
                std::thread::sleep(PAUSE);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let missing = (1..size).filter(|&rank| come[rank - 1].is_none());
                let missing: Vec<String> = missing.map(|rank| rank.to_string()).collect();
                return Err(format!("these ranks did not come within {limit:?}: {}", missing.join(", ")));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    let mut peers: Vec<TcpStream> = come.into_iter().flatten().collect();
    peers.iter_mut().try_for_each(|peer| peer.write_all(bytes)).map_err(failed)?;
    Ok(peers)
}

/// The part of the others: the connection to rank 0.
fn go_to(
    place: (&str, u16),
    (rank, size): (usize, usize),
    bytes: &mut [u8],
    limit: Duration,
) -> std::result::Result<TcpStream, String> {
    let began = Instant::now();
    let mut rank_0 = loop {
        match TcpStream::connect(place) {
            Ok(stream) => break stream,
            Err(error) if began.elapsed() > limit => {
                return Err(format!("rank 0 was not there within {limit:?}: {error}"));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    };
    let failed = |error: Error| match error.kind() {
        ErrorKind::UnexpectedEof => {
            format!("rank 0 does not take this one as rank {rank} of {size}, or has ended")
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("not all ranks came within {limit:?}"),
        _ => error.to_string(),
    };
    say(&mut rank_0, rank as u32).and_then(|()| say(&mut rank_0, size as u32)).map_err(failed)?;
    // Rank 0 names those that do not come, and is given the time for it.
    let longer = limit.checked_add(Duration::from_secs(1));
    rank_0.set_read_timeout(longer).and_then(|()| rank_0.read_exact(bytes)).map_err(failed)?;
    Ok(rank_0)
}

/// A name may be another address to this machine than to others, so that rank 0 listens at all of its own; a number is meant as
/// it is.
fn listen((host, port): (&str, u16)) -> std::io::Result<TcpListener> {
    if host == "localhost" || host.parse::<IpAddr>().is_ok() {
        let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
        return TcpListener::bind(&addresses[..]);
    }
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
}

/// Listens to one rank for rank 0, and tells all of its end.
fn watch(mut peers: Vec<TcpStream>, place: usize, limit: Duration, lost: &Lost) {
    let rank = place + 1;
    let (word, error) = match hear_other(&mut peers[place]) {
        Heard::Word(_) => return,
        Heard::Nothing => (rank as u32 | SILENT, silent(rank, limit)),
        Heard::End => (rank as u32, CollectiveError::Gone { rank }),
    };
    for other in &mut peers {
        // Who cannot be told has gone as well.
        let _ = say(other, word);
    }
    lost(&error);
}

/// Listens to rank 0, which tells of others; if it is gone itself, it says nothing.
fn watch_rank_0(mut rank_0: Vec<TcpStream>, limit: Duration, lost: &Lost) {
    match hear_other(&mut rank_0[0]) {
        Heard::Word(DONE) => {}
        Heard::Word(rank) if rank & SILENT > 0 => lost(&silent((rank & !SILENT) as usize, limit)),
        Heard::Word(rank) => lost(&CollectiveError::Gone { rank: rank as usize }),
        Heard::Nothing => lost(&silent(0, limit)),
        Heard::End => lost(&CollectiveError::Gone { rank: 0 }),
    }
}

fn silent(rank: usize, limit: Duration) -> CollectiveError {
    CollectiveError::Late { silent: vec![rank], busy: vec![], limit }
}

/// Gives signs of life until the rendezvous is over.
fn beat(mut peers: Vec<TcpStream>, every: Duration, over: &Receiver<()>) {
    while over.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        // If it cannot be said, the one that listens notices.
        peers.retain_mut(|peer| say(peer, ALIVE).is_ok());
    }
}

fn say(stream: &mut TcpStream, word: u32) -> std::io::Result<()> {
    stream.write_all(&word.to_le_bytes())
}

fn hear(stream: &mut TcpStream) -> Heard {
    let mut word = [0; 4];
    match stream.read_exact(&mut word) {
        Ok(()) => Heard::Word(u32::from_le_bytes(word)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Heard::Nothing,
        Err(_) => Heard::End,
    }
}

/// What comes besides signs of life.
fn hear_other(stream: &mut TcpStream) -> Heard {
    loop {
        match hear(stream) {
            Heard::Word(ALIVE) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Launcher;

    /// The launches of so many ranks, that meet at a free place.
    fn launches(size: usize) -> Vec<Launch> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let master = Some(("127.0.0.1".to_string(), port - 1));
        let launch = |rank| Launch {
            launcher: Launcher::Torchrun,
            rank,
            size,
            local_rank: rank,
            master: master.clone(),
        };
        (0..size).map(launch).collect()
    }

    /// Three ranks meet; gives the connections, and what each is told.
    fn three() -> (Vec<Option<Rendezvous>>, Receiver<(usize, String)>) {
        let (tell, told) = channel();
        let met = std::thread::scope(|scope| {
            let start = |launch: Launch| {
                let (tell, rank) = (tell.clone(), launch.rank);
                scope.spawn(move || {
                    let mut bytes = [rank as u8 + 7; 3];
                    let lost = move |error: &CollectiveError| drop(tell.send((rank, error.to_string())));
                    let met = Rendezvous::meet(&launch, &mut bytes, Duration::from_secs(10), lost).unwrap();
                    assert_eq!(bytes, [7; 3]);
                    met
                })
            };
            // Rank 0 comes last: the others wait for it.
            let ranks: Vec<_> = launches(3).into_iter().rev().map(start).collect();
            ranks.into_iter().rev().map(|rank| Some(rank.join().unwrap())).collect()
        });
        (met, told)
    }

    #[test]
    fn a_rank_that_ends_without_a_word_is_told_of_to_all_others() {
        let (mut ranks, told) = three();
        // What the system does with a process that dies.
        let peer = ranks[2].as_mut().unwrap().peers.remove(0);
        peer.shutdown(Shutdown::Both).unwrap();
        let began = Instant::now();
        let mut heard: Vec<(usize, String)> =
            (0..3).map(|_| told.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        assert!(began.elapsed() < Duration::from_secs(2));
        heard.sort_unstable();
        // To the rank itself it is rank 0 that has gone.
        for ((rank, text), (expected, gone)) in heard.iter().zip([(0, 2), (1, 2), (2, 0)]) {
            assert!(
                *rank == expected && text.contains(&format!("rank {gone} has stopped")),
                "{rank}: {text}"
            );
        }
    }

    #[test]
    fn ranks_that_are_done_are_not_missed() {
        let (mut ranks, told) = three();
        for rank in [1, 0, 2] {
            ranks[rank] = None;
        }
        assert!(told.recv_timeout(Duration::from_millis(300)).is_err());
    }

    #[test]
    fn who_does_not_come_or_is_of_another_training_is_named() {
        let meet = |launch: &Launch| {
            Rendezvous::meet(launch, &mut [0], Duration::from_millis(300), |_| {}).err().unwrap().to_string()
        };
        let check = |rank: usize, expected: &str| {
            let error = meet(&launches(3)[rank]);
            assert!(error.contains(expected), "{error}");
        };
        check(0, "these ranks did not come within 300ms: 1, 2");
        check(1, "rank 0 was not there within 300ms");
        // One that was told of four ranks, and two that take themselves for rank 2.
        let [zero, one, two] = launches(3).try_into().unwrap();
        let four = Launch { size: 4, ..one };
        let errors = std::thread::scope(|scope| {
            let ranks = [&zero, &four, &two, &two].map(|launch| scope.spawn(move || meet(launch)));
            ranks.map(|rank| rank.join().unwrap())
        });
        assert!(errors[0].contains("did not come within 300ms: 1"), "{errors:?}");
        assert!(errors[1].contains("does not take this one as rank 1 of 4"), "{errors:?}");
        assert!(
            errors[2..].iter().any(|error| error.contains("does not take this one as rank 2 of 3")),
            "{errors:?}"
        );
    }
}
