/**
 * The function that makes a transaction of the application conditional on the keys of its locks.
 *
 * It locks the rows of the keys until the transaction commits, so that no key can be deleted between the check and the
 * commit. A client that stops in between must not keep them: the transaction ends if it is idle too long.
 */
import { indexScans } from "./settings.ts"

export const fence = (schema: string): string => `
create or replace function ${schema}.fenced(conditions jsonb, data bytea[], idle_millis integer) returns integer
language plpgsql ${indexScans} as $fn$
declare
  c jsonb;
  k bytea;
  n integer := 0;
begin
  for c in select value from jsonb_array_elements(conditions) loop
    n := n + 1;
    k := data[(c->>'k')::int];
    perform from ${schema}.entry x
    where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k
    for key share;
    if not found or not ${schema}.holds(c, data) then return n; end if;
  end loop;
  perform set_config('idle_in_transaction_session_timeout', idle_millis::text, true);
  return 0;
end $fn$;
`
