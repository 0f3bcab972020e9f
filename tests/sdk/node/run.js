'use strict';

// Invokes the skill once per token, in order, and prints one line of JSON: what the SDK handed to the handler.
//
//   node run.js --gateway URL --endpoint URL --token T [--token T ...] [--mode client|event|direct]
//
//   client   the ApiClient of gateway_client.js
//   event    the SDK's own ApiClient, context.System.apiEndpoint replaced
//   direct   the ApiClient of gateway_client.js with ALEXA_GATEWAY_URL unset: straight to --endpoint
//
// --gateway and --endpoint may also come from ALEXA_GATEWAY_URL and ALEXA_API_ENDPOINT.

const { parseArgs } = require('util');
const skill = require('./skill');

function envelope(apiEndpoint, apiAccessToken) {
  const application = { applicationId: 'amzn1.ask.skill.00000000-0000-0000-0000-000000000000' };
  const user = { userId: 'amzn1.ask.account.TEST' };
  const person = { personId: 'amzn1.ask.person.TEST', accessToken: 'person-access-token' };
  return {
    version: '1.0',
    session: { new: true, sessionId: 'amzn1.echo-api.session.TEST', application, user, attributes: {} },
    context: {
      System: {
        application, user, person, apiEndpoint, apiAccessToken,
        device: { deviceId: 'amzn1.ask.device.TEST', supportedInterfaces: {} },
      },
    },
    request: {
      type: 'LaunchRequest',
      requestId: 'amzn1.echo-api.request.TEST',
      timestamp: '2024-01-01T00:00:00Z',
      locale: 'de-DE',
      shouldLinkResultBeReturned: false,
    },
  };
}

async function main() {
  const { values } = parseArgs({
    options: {
      gateway: { type: 'string', default: process.env.ALEXA_GATEWAY_URL },
      endpoint: { type: 'string', default: process.env.ALEXA_API_ENDPOINT },
      token: { type: 'string', multiple: true, default: [] },
      mode: { type: 'string', default: 'client' },
    },
  });
  const { gateway, endpoint, token: tokens, mode } = values;
  if (!['client', 'event', 'direct'].includes(mode)) throw new Error(`unknown mode ${mode}`);
  if (!endpoint || !tokens.length || (mode !== 'direct' && !gateway)) {
    throw new Error('--gateway, --endpoint and at least one --token are needed');
  }
  if (mode === 'direct') delete process.env.ALEXA_GATEWAY_URL;
  else process.env.ALEXA_GATEWAY_URL = gateway;

  const handler = mode === 'event' ? skill.eventHandler : skill.handler;
  const results = [];
  for (const token of tokens) {
    const response = await handler(envelope(endpoint, token));
    results.push(response.sessionAttributes);
  }
  console.log(JSON.stringify({ sdk: 'node', mode, results }));
}

// The SDK has no timeout, and a promise that never settles would end this process silently with status 0.
const guard = setTimeout(() => {
  console.error('no answer after 20 s');
  process.exit(3);
}, 20000);

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
}).finally(() => clearTimeout(guard));
