//! Brings every secret to the readers that need it now, and out of the old form. Idempotent; any node that can open a
//! secret does it for that one.

use super::form::{self, Form};
use super::{SecretError, Secrets};
use crate::store::Entry;

/// What became of the secrets in one pass.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resealed {
    /// Sealed anew, under new data keys.
    pub done: Vec<String>,
    /// Not as they should be, and not to be opened here, or nobody is known to need them: left to others.
    pub left: Vec<String>,
}

impl Resealed {
    /// Whether every secret is sealed to those that need it, and to nobody else.
    pub fn is_settled(&self) -> bool {
        self.done.is_empty() && self.left.is_empty()
    }
}

enum Pass {
    Fits,
    Done,
    Left,
}

impl Secrets {
    /// Seals anew every secret whose readers are not those that need it now, or that is still in the old form. The
    /// times at which it was set stay. A secret that another node writes meanwhile is left as that node wrote it. Fails
    /// only where the store does; may be run any number of times, on any number of nodes.
    pub async fn reseal(&self) -> Result<Resealed, SecretError> {
        let mut resealed = Resealed::default();
        for (name, entry) in self.records()? {
            match self.reseal_one(&name, &entry).await {
                Ok(Pass::Fits) => {}
                Ok(Pass::Done) => resealed.done.push(name),
                Err(SecretError::Store(error)) => return Err(error.into()),
                Ok(Pass::Left) | Err(_) => resealed.left.push(name),
            }
        }
        Ok(resealed)
    }

    async fn reseal_one(&self, name: &str, entry: &Entry) -> Result<Pass, SecretError> {
        let wanted = self.wanted(name)?;
        let form = Form::read(&entry.value).ok_or_else(|| SecretError::Sealed(name.into()))?;
        if matches!(&form, Form::Shared(_)) && form.readers() == wanted {
            return Ok(Pass::Fits);
        }
        let value = form.open(name, &*self.sealing, self.old.as_ref())?;
        let sealed = form::seal(&*self.sealing, name, &value, &wanted, form.times())?;
        let is_written = self.replace(name, Some(entry), sealed).await?;
        Ok(if is_written { Pass::Done } else { Pass::Left })
    }
}
