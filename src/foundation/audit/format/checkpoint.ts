import type { AuditCheckpoint } from '#foundation/store'
import { FORMAT, linesOf, type ChainName } from './chain.ts'
import { isSignatureOf, signatureOf, type Sign, type VerifySignature } from './signature.ts'

/** What a checkpoint says, before it is signed. */
export type Unsigned = Omit<AuditCheckpoint, 'kid' | 'signature'>

/** What a checkpoint's signature covers. One without a number was written before the format had one. */
export const checkpointBytes = ({ installation, node }: ChainName, { number, seq, hash, at }: Unsigned): Uint8Array =>
  Buffer.from(
    number === null
      ? JSON.stringify(['deputy audit checkpoint', seq, hash, at])
      : linesOf(['deputy audit checkpoint', FORMAT, installation, node, number, seq, hash, at]),
  )

export const signCheckpoint = (chain: ChainName, unsigned: Unsigned, sign: Sign): AuditCheckpoint => ({
  ...unsigned,
  ...signatureOf(checkpointBytes(chain, unsigned), sign),
})

export const isCheckpointSigned = (chain: ChainName, checkpoint: AuditCheckpoint, verify: VerifySignature): boolean =>
  isSignatureOf(checkpointBytes(chain, checkpoint), checkpoint, verify)
