/**
 * The registry of named stores, which live as long as the process.
 */
import { resolveOptions } from "./options.ts"
import { Store } from "./store.ts"
import type { Time } from "./time.ts"

const stores = new Map<string, Store>()

/**
 * The store of a name. Makes it on first use.
 *
 * While no client is connected, the store switches to the clock of the next caller. So the tests of a process, each
 * with its own test clock, can use the same name one after the other.
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
