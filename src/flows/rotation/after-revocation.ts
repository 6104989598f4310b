import type { Revoker } from '#flows/revocation'
import type { Logger } from '#foundation/telemetry'
import type { RotationService } from './service.ts'

/** A revoker after whose revocations rotate what the policies say. That a rotation could not begin takes nothing from the revocation, which stands. */
export const withRotations = (
  revoker: Revoker,
  rotation: Pick<RotationService, 'revoked'>,
  logger: Logger,
): Revoker => ({
  preview: (scope) => revoker.preview(scope),
  async revoke(order) {
    const receipt = await revoker.revoke(order)
    await rotation.revoked(order.scope, receipt.id).catch((error: unknown) => {
      logger.error({ err: error, revocation: receipt.id }, 'rotations that a revocation asks for could not begin')
    })
    return receipt
  },
})
