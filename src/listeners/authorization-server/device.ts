import type { Configuration, KoaContextWithOIDC } from 'oidc-provider'
import { deviceCodePage, deviceConfirmPage, donePage, errorPage } from '#flows/connect'
import type { Rates } from '#foundation/cache'
import { paths } from '#listeners/http'
import { addressOf } from './new-clients.ts'
import { answerRefusal, showRefusal } from './refusal.ts'
import { showPage } from './show-page.ts'

type DeviceFeature = NonNullable<NonNullable<Configuration['features']>['deviceFlow']>

const formOf = (context: KoaContextWithOIDC) => ({
  action: paths.device,
  xsrf: String((context.oidc.session as { state?: { secret?: string } } | undefined)?.state?.secret ?? ''),
})

/** The code of `verification_uri_complete`, which only fills the form in: the user compares it, and goes on. */
const USER_CODE = 'deviceUserCode'

const PROBLEMS: Readonly<Record<string, string>> = {
  NoCodeError: 'Type the code.',
  NotFoundError: 'There is no such code, or it has expired. Check the code, or start again in the program.',
  ExpiredError: 'The code has expired. Start again in the program.',
  AlreadyUsedError: 'The code was used already. Start again in the program.',
}

/** Sign-in of programs without a browser (RFC 8628), with pages of Deputy's own. */
export const deviceFeature: DeviceFeature = {
  enabled: true,
  charset: 'base-20',
  mask: '****-****',
  deviceInfo: () => ({}),
  userCodeInputSource(context, _form, _out, error) {
    const name = (error as Error | undefined)?.name
    if (name === 'AbortedError') {
      showPage(context, donePage('Nothing was allowed', 'The program on the other device is not signed in.'))
      return
    }
    const code = context.state[USER_CODE]
    showPage(
      context,
      deviceCodePage({
        ...formOf(context),
        code: typeof code === 'string' ? code : '',
        problem: name === undefined ? undefined : (PROBLEMS[name] ?? 'This did not work. Type the code once more.'),
      }),
    )
  },
  userCodeConfirmSource(...[context, , client, , code]) {
    showPage(context, deviceConfirmPage({ ...formOf(context), code, client: client.clientName ?? client.clientId }))
  },
  successSource(context) {
    showPage(context, donePage('Signed in', 'The program on the other device goes on by itself in a few seconds.'))
  },
}

/**
 * Bounds the codes that are made and guessed (RFC 8628 section 5.1), and takes the code out of the address.
 * @returns false where the answer is there already
 */
export const admitDevice = async (rates: Pick<Rates, 'admit'>, context: KoaContextWithOIDC): Promise<boolean> => {
  if (context.method === 'GET' && context.path === paths.device) {
    const { user_code: code } = context.query
    if (typeof code === 'string') context.state[USER_CODE] = code.slice(0, 20)
    context.querystring = ''
  }
  if (context.method !== 'POST' || (context.path !== paths.device && context.path !== paths.deviceAuthorization))
    return true
  try {
    await rates.admit('device_codes_by_address', [addressOf(context.req)])
    await rates.admit('device_codes', [])
    return true
  } catch (thrown) {
    if (context.path === paths.device) showRefusal(context, thrown)
    else answerRefusal(context, thrown)
    return false
  }
}

/** The library fails where a form comes without the cookie of its page, or long after it. */
export const showLostForm = (context: KoaContextWithOIDC): void => {
  context.status = 400
  showPage(
    context,
    errorPage(
      'This page has expired, or this browser keeps no cookies.',
      'Open the address that the program shows once more, in the browser that you usually use.',
      String(context.state['correlationId']),
    ),
  )
}
