/**
 * What proves a backend of effect-kv: the contract as a suite, random programs against a second store, recorded histories
 * and their checkers, real etcd servers and the faults to put in their way.
 */
export * as Call from "./Call.ts"
export * as Changes from "./Changes.ts"
export * as Differential from "./Differential.ts"
export * as EtcdBinaries from "./EtcdBinaries.ts"
export * as EtcdCluster from "./EtcdCluster.ts"
export * as History from "./History.ts"
export * as KvConformance from "./KvConformance.ts"
export * as KvFaults from "./KvFaults.ts"
export * as LinearizabilityChecker from "./LinearizabilityChecker.ts"
export * as LockChecker from "./LockChecker.ts"
export * as Recorder from "./Recorder.ts"
export * as RevisionChecker from "./RevisionChecker.ts"
export * as Simulation from "./Simulation.ts"
export * as TcpProxy from "./TcpProxy.ts"
export * as TestCertificates from "./TestCertificates.ts"
export * as Violation from "./Violation.ts"
export * as WatchChecker from "./WatchChecker.ts"
