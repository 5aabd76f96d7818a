type Result<T> = std::result::Result<T, String>;

/// The bytes yet to be read.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, length: bytes.len() }
    }

    pub(crate) fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether these bytes come next; if so, they are passed.
    pub(crate) fn passes(&mut self, bytes: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(bytes);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(n) else {
            return Err(format!(
                "{n} bytes were expected and {} are left: the file is cut short",
                self.rest.len()
            ));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn byte(&mut self) -> Result<usize> {
        Ok(usize::from(self.array::<1>()?[0]))
    }

    pub(crate) fn u32(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// A length that memory cannot have is one that the file has not.
    pub(crate) fn u64(&mut self) -> Result<usize> {
        Ok(usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX))
    }

    /// What comes before the next end of line, which is passed.
    pub(crate) fn line(&mut self) -> Result<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or("a line without an end")?;
        let line = self.take(end)?;
        self.take(1)?;
        Ok(line)
    }

    pub(crate) fn text_line(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.line()?).map_err(|_| "a line is not UTF-8".into())
    }
}
