/**
 * Replacements of the store of a one-member cluster behind its address: by a snapshot, or by an empty store.
 */
import { EtcdBinaries, type EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"

const peerUrlOf = (cluster: EtcdCluster.EtcdCluster["Service"]) =>
  Effect.map(cluster.etcdctl(["member", "list"]), (members) => /http:\/\/[^,]+/.exec(members)![0])

/** Saves a snapshot. The returned effect stops the member and restores the snapshot, as an operator would. */
export const snapshot = Effect.fnUntraced(function*(cluster: EtcdCluster.EtcdCluster["Service"]) {
  const { directory, endpoints, etcdctl, member, version } = cluster
  const peerUrl = yield* peerUrlOf(cluster)
  const file = `${directory}/snapshot`
  yield* Effect.sync(() => Fs.rmSync(file, { force: true }))
  yield* etcdctl(["snapshot", "save", file])
  const data = `${directory}/${member.name}`
  return Effect.gen(function*() {
    yield* member.kill
    yield* Effect.sync(() => Fs.rmSync(data, { recursive: true }))
    const flags = {
      "data-dir": data,
      "name": member.name,
      "initial-cluster": `${member.name}=${peerUrl}`,
      "initial-advertise-peer-urls": peerUrl,
      "initial-cluster-token": directory
    }
    const restore = ["snapshot", "restore", file, ...Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)]
    const { etcdctl: program } = yield* EtcdBinaries.get(version)
    const etcdutl = Path.join(Path.dirname(program), "etcdutl")
    // From etcd 3.6, `etcdutl` restores snapshots.
    yield* Fs.existsSync(etcdutl)
      ? Effect.sync(() => void ChildProcess.execFileSync(etcdutl, restore, { stdio: "pipe" }))
      : etcdctl(restore, { endpoint: endpoints[0]! })
    yield* member.start
  })
})

/** Kills the member, and starts it with an empty data directory. */
export const wipeData = ({ directory, member }: EtcdCluster.EtcdCluster["Service"]) =>
  member.kill.pipe(
    Effect.andThen(Effect.sync(() => Fs.rmSync(`${directory}/${member.name}`, { recursive: true }))),
    Effect.andThen(member.start)
  )
