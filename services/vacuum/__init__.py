"""The vacuum controller: keeps startds running while there is work, and next to none while there is not."""
