/** What proves the audit log: the heads that are kept outside of the store, and the walk along its chains. */
import { join } from 'node:path'
import { keysFolder } from '#daemon/foundation'
import { type DurableAuditLog, HeadKeeper, type Verification, verifyChains, walkStore } from '#foundation/audit'
import { equalInConstantTime } from '#foundation/crypto'
import type { SigningKeys } from '#foundation/keys'
import type { Store } from '#foundation/store'
import type { DaemonContext } from '../context.ts'

/** How often a node looks at the heads of the others (ms). */
const LOOK_EVERY_MS = 10_000

interface Parts {
  readonly store: Store
  readonly signingKeys: SigningKeys
  readonly installation: string
}

/** The heads beside the data keys, where the owner of the store is not. */
export const openHeads = async (
  { settings, home, logger, atEnd }: DaemonContext,
  { store, signingKeys, installation }: Parts,
): Promise<HeadKeeper> => {
  const heads = await HeadKeeper.open({
    folder: join(keysFolder(home, settings), 'audit-heads'),
    chain: { installation, node: store.audit.node },
    store: store.audit,
    verifySignature: (kid, bytes, signature) => signingKeys.verify('checkpoint', kid, bytes, signature),
    logger,
  })
  atEnd(() => heads.close())
  if (store.cluster === undefined) return heads
  const look = setInterval(() => {
    heads.look().catch((error: unknown) => {
      logger.debug({ err: error }, 'the heads of the other nodes were not read')
    })
  }, LOOK_EVERY_MS)
  look.unref()
  atEnd(() => {
    clearInterval(look)
  })
  return heads
}

/** Verifies every chain against what this daemon, its files and the heads beside the keys know. */
export const createAuditVerification =
  (
    { store, signingKeys, installation }: Parts,
    {
      audit,
      heads,
      prove,
    }: {
      readonly audit: DurableAuditLog
      readonly heads: HeadKeeper
      readonly prove: (text: string) => string
    },
  ) =>
  async (): Promise<Verification> => {
    // What a fail-over of the database has lost is written again first: that is no tampering.
    await audit.compare()
    // Read before the chains are: these only become longer meanwhile.
    const known = [audit.head, ...(await heads.known())]
    const keys = signingKeys.jwks('checkpoint').keys.map((jwk) => ({ kid: jwk.kid!, jwk }))
    return verifyChains(
      store.audit,
      {
        installation,
        verifySignature: (kid, bytes, signature) => signingKeys.verify('checkpoint', kid, bytes, signature),
        isProved: (text, proof) => equalInConstantTime(prove(text), proof),
        heads: known,
      },
      walkStore(store.audit, keys),
    )
  }
