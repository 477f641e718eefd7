//! The Get Log Page command (Base 2.1, section 5.1.12).

use std::io::IoSliceMut;

use nvme_spec::log::GetLogPage;

use super::association::Association;
use crate::transport::TransportError;
use crate::{Deadline, Error, Transfer};

/// The most bytes of one log page.
const MOST_LOG: u64 = 64 << 20;

impl Association {
    /// Reads `length` bytes of a log page from `request.offset` on, in as many commands as it
    /// takes; `request.numd` is of no matter. `length` is a multiple of four.
    ///
    /// Where the request does not retain the asynchronous event, only the last command clears it.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers; [`Error::LogLength`] for a length that is zero,
    /// no multiple of four, or more than 64 MiB.
    pub fn log_page(&mut self, request: GetLogPage, length: u64) -> Result<Vec<u8>, Error> {
        self.log_page_until(request, length, None)
    }

    /// The same; no command is begun after the deadline.
    pub(super) fn log_page_until(
        &mut self,
        request: GetLogPage,
        length: u64,
        deadline: Option<Deadline>,
    ) -> Result<Vec<u8>, Error> {
        let refused = || Error::LogLength { length };
        if length == 0 || length > MOST_LOG || request.offset.checked_add(length).is_none() {
            return Err(refused());
        }
        let mut page = vec![0; usize::try_from(length).map_err(|_| refused())?];
        let most = usize::try_from(self.max_transfer()).unwrap_or(usize::MAX);
        let (mut offset, mut left) = (request.offset, page.len());
        for piece in page.chunks_mut(most) {
            if deadline.is_some_and(Deadline::has_passed) {
                return Err(TransportError::TimedOut.into());
            }
            left -= piece.len();
            let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            let part = GetLogPage::new(request.lid, offset, bytes).ok_or_else(refused)?;
            let rae = request.rae || left > 0;
            let part = GetLogPage { offset, numd: part.numd, rae, ..request };
            self.execute(part.to_sqe(), Transfer::Read(&mut [IoSliceMut::new(piece)]))?;
            offset += bytes;
        }
        Ok(page)
    }
}
