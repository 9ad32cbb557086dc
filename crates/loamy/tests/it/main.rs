mod codec_against_hyper;
mod faults;
mod scheduling;
