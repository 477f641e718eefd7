//! The Get Features and Set Features commands (Base 2.1, sections 5.1.11 and 5.1.25).

use std::io::{IoSlice, IoSliceMut};

use nvme_spec::feature::{GetFeatures, HOST_ID_EXTENDED, NumberOfQueues, Select, SetFeatures, fid};
use nvme_spec::{Sqe, opcode};

use super::association::Association;
use crate::{Error, Transfer};

impl Association {
    /// Reads a feature: its value is in the dword returned or in `data`, which may be empty for
    /// those that have no data. `nsid` is 0 but for features that each namespace has.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers.
    pub fn get_feature(
        &mut self,
        fid: u8,
        select: Select,
        nsid: u32,
        data: &mut [u8],
    ) -> Result<u32, Error> {
        let cdw11 = if fid == fid::HOST_IDENTIFIER { HOST_ID_EXTENDED } else { 0 };
        self.get_feature_with(fid, select, nsid, cdw11, data)
    }

    /// The same for features that want to know more, in dword 11: which threshold, above all.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers.
    pub fn get_feature_with(
        &mut self,
        fid: u8,
        select: Select,
        nsid: u32,
        cdw11: u32,
        data: &mut [u8],
    ) -> Result<u32, Error> {
        let mut sqe = Sqe::new(opcode::admin::GET_FEATURES);
        sqe.nsid.set(nsid);
        sqe.set_cdw(10, GetFeatures { fid, select }.to_cdw10());
        sqe.set_cdw(11, cdw11);
        let mut pieces = [IoSliceMut::new(data)];
        let transfer =
            if pieces[0].is_empty() { Transfer::None } else { Transfer::Read(&mut pieces) };
        Ok(self.execute(sqe, transfer)?.dw0.get())
    }

    /// Changes a feature until the next reset; returns dword 0 of the answer.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers.
    pub fn set_feature(
        &mut self,
        fid: u8,
        nsid: u32,
        value: u32,
        data: &[u8],
    ) -> Result<u32, Error> {
        let mut sqe = Sqe::new(opcode::admin::SET_FEATURES);
        sqe.nsid.set(nsid);
        sqe.set_cdw(10, SetFeatures { fid, save: false }.to_cdw10());
        sqe.set_cdw(11, value);
        let pieces = [IoSlice::new(data)];
        let transfer = if data.is_empty() { Transfer::None } else { Transfer::Write(&pieces) };
        Ok(self.execute(sqe, transfer)?.dw0.get())
    }

    /// Asks for `wanted` I/O queues (1 to 65,535); returns the submission and completion queues
    /// that the controller grants, which may be less or more. Only while there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers.
    pub fn request_io_queues(&mut self, wanted: u16) -> Result<(u32, u32), Error> {
        let value = NumberOfQueues::pairs(wanted).to_dword();
        let granted = self.set_feature(fid::NUMBER_OF_QUEUES, 0, value, &[])?;
        let granted = NumberOfQueues::from_dw0(granted);
        Ok((granted.submission, granted.completion))
    }
}
