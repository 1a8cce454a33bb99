-- 0015 The sweeper, which runs with the reaper as darkroom_writer, keeps how far it looked: 0014 did not know its table yet.
grant select on file_sweeps to darkroom_reader;
grant select, insert, update, delete on file_sweeps to darkroom_writer;
