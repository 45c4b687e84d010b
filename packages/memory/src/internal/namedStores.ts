/**
 * The stores with a name, which live as long as the process.
 */
import { resolveOptions } from "./options.ts"
import { Store } from "./store.ts"
import type { Time } from "./time.ts"

const stores = new Map<string, Store>()

/**
 * The store of a name, made where there is none yet.
 *
 * It goes by the clock of whoever opens it while no client is connected: the tests of a process, each with a test clock of
 * its own, can use the same name one after the other.
 */
export const named = (name: string, time: Time): Store => {
  let store = stores.get(name)
  if (store === undefined) {
    store = new Store(resolveOptions(undefined), time)
    stores.set(name, store)
  }
  store.adopt(time)
  return store
}
