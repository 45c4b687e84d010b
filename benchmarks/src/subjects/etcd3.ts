/**
 * The `etcd3` package: its public API, and the raw client below it, both with their defaults.
 */
import * as Effect from "effect/Effect"
import { Etcd3 } from "etcd3"
import * as Calls from "./Calls.ts"
import * as Messages from "./Messages.ts"

/** A client of the package. `options` sets what its defaults do not allow. */
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
  const revisions: Array<string> = []
  return Calls.ofPromises({
    get: (caller) => client.get(Calls.key(caller)).string(),
    put: (caller) => client.put(Calls.key(caller)).value(Calls.value).exec(),
    cas: async (caller) => {
      const key = Calls.casKey("etcd3", caller)
      const response = await client.if(key, "Mod", "==", revisions[caller] ?? "0")
        .then(client.put(key).value(Calls.value))
        .commit()
      revisions[caller] = Messages.revisionOf(response)
    },
    range: () => client.getAll().prefix(Calls.prefix).strings()
  })
}

export const rawCalls = ({ kv }: Etcd3): Calls.Calls => {
  const revisions: Array<string> = []
  return Calls.ofPromises({
    get: (caller) => kv.range(Messages.get(caller)),
    put: (caller) => kv.put(Messages.put(caller)),
    cas: async (caller) => {
      revisions[caller] = Messages.revisionOf(await kv.txn(Messages.cas("etcd3 raw", caller, revisions[caller])))
    },
    range: () => kv.range(Messages.range)
  })
}
