/**
 * The `etcd3` package: its public API, and its raw client beneath, both as they come.
 */
import * as Effect from "effect/Effect"
import { Etcd3 } from "etcd3"
import * as Calls from "./Calls.ts"
import * as Messages from "./Messages.ts"

/** A client of the package. `options` are for what it cannot do by default. */
export const open = (endpoints: ReadonlyArray<string>, options?: { readonly anySize?: boolean }) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      new Etcd3({
        hosts: [...endpoints],
        ...(options?.anySize === true ? { grpcOptions: { "grpc.max_receive_message_length": -1 } } : {})
      })
    ),
    (client) => Effect.sync(() => client.close())
  )

export const calls = (client: Etcd3): Calls.Calls => {
  const get = (caller: number) => client.get(Calls.key(caller)).string()
  const put = (caller: number) => client.put(Calls.key(caller)).value(Calls.value).exec()
  const revisions: Array<string> = []
  return {
    get: { promise: get },
    put: { promise: put },
    mix: { promise: Calls.mix<Promise<unknown>>(get, put) },
    cas: {
      promise: async (caller) => {
        const key = Calls.casKey("etcd3", caller)
        const response = await client.if(key, "Mod", "==", revisions[caller] ?? "0")
          .then(client.put(key).value(Calls.value))
          .commit()
        revisions[caller] = Messages.revisionOf(response)
      }
    },
    range: { promise: () => client.getAll().prefix(Calls.prefix).strings() }
  }
}

export const rawCalls = ({ kv }: Etcd3): Calls.Calls => {
  const get = (caller: number) => kv.range(Messages.get(caller))
  const put = (caller: number) => kv.put(Messages.put(caller))
  const revisions: Array<string> = []
  return {
    get: { promise: get },
    put: { promise: put },
    mix: { promise: Calls.mix<Promise<unknown>>(get, put) },
    cas: {
      promise: async (caller) => {
        revisions[caller] = Messages.revisionOf(await kv.txn(Messages.cas("etcd3 raw", caller, revisions[caller])))
      }
    },
    range: { promise: () => kv.range(Messages.range) }
  }
}
