/**
 * Authentication that one side sets up is the other's: users, roles and passwords made by Go and through our `EtcdClient`.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { EtcdClient } from "@effect-kv/etcd/EtcdClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { go, on, ours, server, services, waiting } from "./support/clients.ts"

const reason = <A>(effect: Effect.Effect<A, KvError.KvError>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

const as = (username: string, password: string) => ours({ auth: { username, password: Redacted.make(password) } })

/** Everything that a user with a role for the keys under a prefix may and may not do. */
const assertRights = Effect.fnUntraced(function*(kv: Kv.Kv, prefix: string) {
  const { revision } = yield* kv.put(`${prefix}a`, "1")
  assert.deepStrictEqual(yield* kv.get(`${prefix}a`), Option.some("1"))
  assert.strictEqual(yield* kv.count(KeyRange.prefix(prefix)), 1)
  assert.isTrue(Option.isSome(yield* kv.compareAndSet(`${prefix}a`, revision, "2")))
  yield* Effect.scoped(kv.subscribe(KeyRange.prefix(prefix)))
  const denied: ReadonlyArray<Effect.Effect<unknown, KvError.KvError>> = [
    kv.put("elsewhere", "1"),
    kv.get("elsewhere"),
    kv.deleteRange(KeyRange.all),
    Effect.scoped(kv.subscribe(KeyRange.all))
  ]
  for (const call of denied) assert.strictEqual(yield* reason(call), "PermissionDenied")
})

layer(server, { excludeTestServices: true, timeout: "2 minutes" })("authentication", (it) => {
  it.effect("users and roles made by either side are valid for the other, until authentication is disabled", () =>
    Effect.gen(function*() {
      // Go makes the root user and a user, and enables authentication.
      const admin = yield* go()
      yield* admin.auth.userAdd("root", "root")
      yield* admin.auth.roleAdd("root")
      yield* admin.auth.userGrantRole("root", "root")
      yield* admin.auth.roleAdd("app")
      yield* admin.auth.roleGrant("app", "readwrite", "app/")
      yield* admin.auth.userAdd("app", "made by Go")
      yield* admin.auth.userGrantRole("app", "app")
      yield* admin.auth.enable
      const root = yield* go({ username: "root", password: "root" })

      // Ours uses them.
      const app = yield* as("app", "made by Go")
      yield* assertRights(app, "app/")
      assert.strictEqual(yield* reason((yield* as("app", "wrong")).get("app/a")), "Unauthenticated")
      assert.strictEqual(yield* reason((yield* ours()).get("app/a")), "Unauthenticated")

      // The other way round: through our client, as root.
      const context = yield* services({ auth: { username: "root", password: Redacted.make("root") } })
      const { etcd3 } = Context.get(context, EtcdClient)
      assert.sameMembers((yield* Effect.promise(() => etcd3.auth.userList())).users, ["app", "root"])
      yield* Effect.promise(async () => {
        await etcd3.auth.userAdd({ name: "ours", password: "made by us" })
        await etcd3.auth.roleAdd({ name: "ours" })
        await etcd3.auth.roleGrantPermission({
          name: "ours",
          perm: { permType: "Readwrite", key: Buffer.from("ours/"), range_end: Buffer.from("ours0") }
        })
        await etcd3.auth.userGrantRole({ user: "ours", role: "ours" })
      })
      assert.sameMembers([...yield* root.auth.userList], ["app", "ours", "root"])
      const client = yield* go({ username: "ours", password: "made by us" })
      yield* client.put("ours/a", "1")
      assert.strictEqual(Buffer.from((yield* client.get("ours/a"))!.value).toString(), "1")
      assert.match((yield* Effect.flip(client.put("app/a", "1"))).message, /permission denied/)
      assert.match((yield* Effect.flip(client.get("app/a"))).message, /permission denied/)
      assert.match((yield* Effect.flip(go({ username: "ours", password: "wrong" }))).message, /authentication failed/)
      yield* assertRights(yield* as("ours", "made by us"), "ours/a/")

      // A lock under authentication, by two users that may both write its keys.
      yield* root.auth.roleGrant("app", "readwrite", "locks/")
      yield* root.auth.roleGrant("ours", "readwrite", "locks/")
      const session = yield* client.session({ ttl: 60 })
      const held = yield* session.lock("locks/both")
      const waiter = yield* Effect.forkScoped(on(app)(DistLock.use("locks/both", Effect.succeed)))
      yield* waiting(app, "locks/both", 1)
      yield* session.unlock("locks/both")
      assert.isTrue((yield* Fiber.join(waiter)).token > held.token)

      // A password that Go changes is ours at the next connection; one that Go deletes the user of is not.
      yield* root.auth.userPassword("app", "changed")
      yield* assertRights(yield* as("app", "changed"), "app/changed/")
      assert.strictEqual(yield* reason((yield* as("app", "made by Go")).get("app/a")), "Unauthenticated")
      yield* root.auth.userDelete("ours")
      assert.strictEqual(yield* reason((yield* as("ours", "made by us")).get("ours/a")), "Unauthenticated")

      // Without authentication everyone may do everything again, with a token or without.
      yield* root.auth.disable
      yield* app.put("elsewhere", "1")
      yield* (yield* ours()).put("elsewhere", "2")
      assert.strictEqual(Buffer.from((yield* admin.get("elsewhere"))!.value).toString(), "2")
    }))
})
