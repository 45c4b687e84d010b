/**
 * The requests as etcd's messages, for the subjects that take those.
 */
import { CompareResult, CompareTarget } from "etcd3"
import type { IPutRequest, IRangeRequest, ITxnRequest, ITxnResponse } from "etcd3"
import * as Calls from "./Calls.ts"

export const get = (caller: number): IRangeRequest => ({ key: Buffer.from(Calls.key(caller)) })

export const put = (caller: number): IPutRequest => ({
  key: Buffer.from(Calls.key(caller)),
  value: Calls.valueBytes
})

/** Without a revision the key must not exist. */
export const cas = (client: string, caller: number, revision = "0"): ITxnRequest => {
  const key = Buffer.from(Calls.casKey(client, caller))
  return {
    compare: [{ key, target: CompareTarget.Mod, result: CompareResult.Equal, mod_revision: revision }],
    success: [{ request_put: { key, value: Calls.valueBytes } }],
    failure: []
  }
}

export const range: IRangeRequest = { key: Buffer.from(Calls.prefix), range_end: Buffer.from(Calls.prefixEnd) }

/** The revision of a successful compare-and-set. A failure is an error here, because no other client writes the key. */
export const revisionOf = (response: ITxnResponse): string => {
  if (!response.succeeded) throw new Error("a compare-and-set failed although no other client writes its key")
  return response.header.revision
}
