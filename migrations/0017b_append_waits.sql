-- 0017b A writer waits for the lock of the ledger for ten seconds at most: whoever asked then hears that it is held, instead
-- of waiting for as long as it is. The function says so itself, for a pooler may drop what a connection says.
alter function ledger_append set lock_timeout = '10s';
