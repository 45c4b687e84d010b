/**
 * The requests as etcd's messages, for the subjects that take them as such.
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

/** The revision of a compare-and-set that wrote; that it did not is an error here, since nobody else writes its key. */
export const revisionOf = (response: ITxnResponse): string => {
  if (!response.succeeded) throw new Error("a compare-and-set without a rival was refused")
  return response.header.revision
}
