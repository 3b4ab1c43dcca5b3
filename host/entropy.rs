//! Secrets from the system.

use std::io;

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes from the system ({source}): allow the getrandom system call")]
pub struct EntropyError {
    source: io::Error,
}

/// 32 fresh secret bytes: the seed of one machine. Waits while the system's own pool is not yet
/// filled, early in its boot.
///
/// # Errors
/// [`EntropyError`] where the system has no source, or a sandbox refuses the call.
pub fn seed() -> Result<[u8; 32], EntropyError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(to_error)?;
    Ok(seed)
}

fn to_error(error: getrandom::Error) -> EntropyError {
    let source = match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    };
    EntropyError { source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }

    #[test]
    fn an_error_names_cause_and_remedy() {
        let text = to_error(getrandom::Error::UNSUPPORTED).to_string();
        assert!(text.starts_with("no random bytes from the system ("), "{text}");
        assert!(text.ends_with("allow the getrandom system call"), "{text}");
    }
}
