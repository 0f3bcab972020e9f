"""Invokes the skill once per token, in order, and prints one line of JSON: what the SDK handed to the handler.

  python run.py --gateway URL --endpoint URL --token T [--token T ...] [--mode client|event|direct]

  client   the ApiClient of gateway_client.py
  event    the SDK's own ApiClient, context.System.apiEndpoint replaced (the SDK refuses http://)
  direct   the ApiClient of gateway_client.py with ALEXA_GATEWAY_URL unset: straight to --endpoint

--gateway and --endpoint may also come from ALEXA_GATEWAY_URL and ALEXA_API_ENDPOINT.
"""
import argparse
import json
import os

import skill


def envelope(endpoint, token):
    application = {"applicationId": "amzn1.ask.skill.00000000-0000-0000-0000-000000000000"}
    user = {"userId": "amzn1.ask.account.TEST"}
    return {
        "version": "1.0",
        "session": {
            "new": True, "sessionId": "amzn1.echo-api.session.TEST",
            "application": application, "user": user, "attributes": {},
        },
        "context": {
            "System": {
                "application": application, "user": user,
                "person": {"personId": "amzn1.ask.person.TEST", "accessToken": "person-access-token"},
                "device": {"deviceId": "amzn1.ask.device.TEST", "supportedInterfaces": {}},
                "apiEndpoint": endpoint, "apiAccessToken": token,
            },
        },
        "request": {
            "type": "LaunchRequest", "requestId": "amzn1.echo-api.request.TEST",
            "timestamp": "2024-01-01T00:00:00Z", "locale": "de-DE", "shouldLinkResultBeReturned": False,
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", default=os.environ.get("ALEXA_GATEWAY_URL"))
    parser.add_argument("--endpoint", default=os.environ.get("ALEXA_API_ENDPOINT"))
    parser.add_argument("--token", action="append", required=True)
    parser.add_argument("--mode", choices=["client", "event", "direct"], default="client")
    args = parser.parse_args()
    if not args.endpoint or (args.mode != "direct" and not args.gateway):
        parser.error("--gateway, --endpoint and at least one --token are needed")
    if args.mode == "direct":
        os.environ.pop("ALEXA_GATEWAY_URL", None)
    else:
        os.environ["ALEXA_GATEWAY_URL"] = args.gateway

    handler = skill.event_handler if args.mode == "event" else skill.handler
    results = [handler(envelope(args.endpoint, token), None)["sessionAttributes"] for token in args.token]
    print(json.dumps({"sdk": "python", "mode": args.mode, "results": results}))


if __name__ == "__main__":
    main()
