/**
 * Distributed coordination for Effect: one contract, whatever the store. What applications need; authors of backends find
 * more in `@effect-kv/core/backend`.
 */
export * as Barrier from "./recipes/Barrier.ts"
export * as DistLock from "./recipes/DistLock.ts"
export * as Election from "./recipes/Election.ts"
export * as Latch from "./recipes/Latch.ts"
export * as RangeView from "./recipes/RangeView.ts"
export * as RunOnce from "./recipes/RunOnce.ts"
export * as Session from "./recipes/Session.ts"
export * as TempKey from "./recipes/TempKey.ts"
export * as Fence from "./service/Fence.ts"
export * as Kv from "./service/Kv.ts"
export * as KvUrl from "./service/KvUrl.ts"
export * as Lease from "./service/Lease.ts"
export * as Compare from "./values/Compare.ts"
export * as Deadline from "./values/Deadline.ts"
export * as Entry from "./values/Entry.ts"
export * as KeyRange from "./values/KeyRange.ts"
export * as KvError from "./values/KvError.ts"
export * as LockError from "./values/LockError.ts"
export * as Op from "./values/Op.ts"
export * as Watch from "./values/Watch.ts"
